"""Every benchmark in turn, or one with its options; what each measures is kept as data.

    python -m bench                         all, at the sizes that the manual tells of: two to three hours
    python -m bench --quick                 all but the longest, small, in ten minutes; keeps nothing
    python -m bench mining --rows 200000    one; its own options follow its name
    python -m bench --list                  what each measures

Each runs as a process of its own and prints its numbers with `measured` (bench/measured.py). They are
kept in bench/results/ with the commit and the machine, and docs/benchmarks.md is made anew from there.
Numbers of code that is not committed are shown and not kept: nobody could run it again.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bench import results, table
from bench.measured import MARK

HERE = Path(__file__).parent
NAMES = (
    "dag",
    "extraction",
    "hrsa",
    "coverage",
    "verdicts",
    "mining",
    "training",
    "evaluation",
    "footprint",
    "single_measures",
    "scale",
)
ON_A_GPU = "gpu_check"  # run by `make gpu-check`, on a machine that has one

# What is run where none is named: beside its default size, or in place of it, sizes and questions of its own.
VARIANTS = {
    "extraction": ([], ["--layers", "24", "--width", "896", "--texts", "16"]),
    "hrsa": (
        ["--size", "medium"],
        ["--size", "full"],
        ["--flat"],
        ["--baseline", "--size", "medium"],
        ["--baseline", "--size", "medium", "--threads", "1"],
        ["--contention"],
    ),
    "mining": ([], ["--rows", "50000"], ["--rows", "200000"]),
    "coverage": (
        [],
        *(
            ["--only", "similarity", "--tokens", "10", *more.split()]
            for more in (
                "--texts 32 --width 64",
                "--texts 57 --width 64",
                "--texts 57 --width 128",
                "--texts 57 --width 64 --tails 4.5",
                "--texts 57 --width 64 --sink 300",
            )
        ),
    ),
    "verdicts": (
        *(["--only", "scores", "--part", f"{n}/3"] for n in range(1, 4)),
        *(["--only", "seeds", "--part", f"{n}/3"] for n in range(1, 4)),
        *(["--only", "states", "--draws", "60", "--part", f"{n}/6"] for n in range(1, 7)),
    ),
    "scale": (["--jobs", "50000"],),
}
# To see on one's own machine, in ten minutes, that nothing has become slow: one small case of each.
QUICK = {
    "dag": ["--jobs", "300", "--pairs", "1"],
    "extraction": ["--texts", "16", "--repeats", "1"],
    "hrsa": ["--baseline", "--size", "small", "--rounds", "1"],
    "coverage": ["--samples", "20"],
    "mining": ["--rows", "5000", "--rounds", "1"],
    "training": ["--steps", "2", "--rounds", "1"],
    "evaluation": ["--texts", "100", "--rounds", "1"],
    "footprint": ["--repeats", "1"],
}


def main(words: list[str]) -> int:
    """Run what is named, or all; the exit code is 1 if any fails."""
    if words == ["--list"]:
        for name in (*NAMES, ON_A_GPU):
            print(
                f"{name:12}{(HERE / f'{name}.py').read_text(encoding='utf-8').splitlines()[0].strip(chr(34))}"
            )
        return 0
    if words == ["--quick"]:
        return int(sum(not run(name, options, keep=False) for name, options in QUICK.items()) > 0)
    if words and words[0] not in (*NAMES, ON_A_GPU):
        print(f"no benchmark {words[0]}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    wanted = [(words[0], words[1:])] if words else [(n, o) for n in NAMES for o in VARIANTS.get(n, ([],))]
    failed = sum(not run(name, options) for name, options in wanted)
    table.main(["--write"])
    return int(failed)


def run(name: str, options: list[str], keep: bool = True) -> bool:
    """Run one benchmark, show what it says, and keep its numbers if they are wanted."""
    print(f"\n== {name} {' '.join(options)}", flush=True)
    load, started, rows = os.getloadavg()[0], time.monotonic(), []
    command = [sys.executable, "-u", str(HERE / f"{name}.py"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            print(line, end="", flush=True)
            if line.startswith(MARK):
                rows.append(json.loads(line.removeprefix(MARK)))
    if child.returncode or not keep:
        return not child.returncode
    if changed := results.uncommitted():
        print(f"not kept, since this is not committed:\n{changed}", file=sys.stderr)
    elif rows:
        print(f"kept in {results.keep(name, options, load, time.monotonic() - started, rows)}")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
