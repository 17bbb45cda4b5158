"""Day one on a GPU: what tests on a CPU can't show, in parts that fail each by itself.

    make gpu-check                                   one GPU, ten minutes
    make gpu-check-2                                 what takes two GPUs
    python bench/gpu_check.py --toy --minutes 5      the same code at toy size, on a CPU

Each part runs in a process of its own and leaves `<part>.json` and `<part>.log` in the folder. A part that
has passed there at this commit is not run again, so a check that was cut off goes on where it was, and
one that ran out of its minutes says which parts are left. `table.md` and `results.json` hold all of it. Run as
`python -m bench gpu_check`, it also keeps the numbers of a check without a failure for docs/benchmarks.md.
"""

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpu_parts import GPU, PARTS, TOY, Part, Place
from measured import MARK

ROOT = Path(__file__).parents[1]


@dataclass
class Outcome:
    """How one part ended."""

    part: str
    state: str  # passed, failed, no time left, needs a GPU
    seconds: float = 0.0
    rows: list[dict] = field(default_factory=list)
    error: str = ""
    commit: str = ""
    toy: bool = False


def main(words: list[str]) -> int:
    given = arguments(words)
    if given.part:
        PARTS[given.part].run(TOY if given.toy else GPU, Place(given.folder))
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    until, outcomes = time.monotonic() + 60 * given.minutes, []
    for part in chosen(given):
        outcome = earlier(part, given) or attempt(part, given, until - time.monotonic())
        outcomes.append(outcome)
        print(f"{outcome.state:>12}  {part.name}  {outcome.seconds:.0f} s  {outcome.error}", flush=True)
        write(given.folder, outcomes)
    for outcome in outcomes:
        for row in outcome.rows:
            print(MARK + json.dumps(row, ensure_ascii=False))
    if left := [o.part for o in outcomes if o.state == "no time left"]:
        print(f"no time left for {', '.join(left)}; run it again to go on from there")
    print(f"see {given.folder / 'table.md'}")
    return int(any(outcome.state == "failed" for outcome in outcomes))


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="start no part that would take longer")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "gpu-check")
    parser.add_argument("--gpus", type=int, choices=(1, 2), default=1)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--toy", action="store_true", help="at toy size, in this process, on a CPU as well")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    given.folder = given.folder.resolve()
    return given


def chosen(given: argparse.Namespace) -> list[Part]:
    """The parts that were asked for: by name, or all for so many GPUs."""
    return [p for p in PARTS.values() if (p.name in given.only if given.only else p.gpus == given.gpus)]


def earlier(part: Part, given: argparse.Namespace) -> Outcome | None:
    """A part's outcome from an earlier check of this commit at this size, if it passed."""
    place = given.folder / f"{part.name}.json"
    if not place.is_file() or not commit():
        return None
    found = Outcome(**json.loads(place.read_text(encoding="utf-8")))
    return found if (found.state, found.commit, found.toy) == ("passed", commit(), given.toy) else None


def attempt(part: Part, given: argparse.Namespace, seconds_left: float) -> Outcome:
    """Run one part; whatever happens to it, the check goes on."""
    if given.toy and part.only_gpu:
        return Outcome(part.name, "needs a GPU")
    if seconds_left < part.seconds and not given.toy:
        return Outcome(part.name, "no time left")
    began = time.monotonic()
    printed, error = (here if given.toy else apart)(part, given, seconds_left)
    (given.folder / f"{part.name}.log").write_text(printed, encoding="utf-8")
    rows = [json.loads(line[len(MARK) :]) for line in printed.splitlines() if line.startswith(MARK)]
    state = "failed" if error else "passed"
    outcome = Outcome(part.name, state, time.monotonic() - began, rows, error, commit(), given.toy)
    (given.folder / f"{part.name}.json").write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")
    return outcome


def apart(part: Part, given: argparse.Namespace, seconds_left: float) -> tuple[str, str]:
    """What a part printed in a process of its own, and its last words if it failed."""
    command = [sys.executable, "-u", __file__, "--part", part.name, "--folder", str(given.folder)]
    limit = min(seconds_left, 4 * part.seconds)
    done = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        printed, _ = done.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(done.pid, signal.SIGTERM)
        printed, _ = done.communicate()
        return printed, f"was stopped after {limit:.0f} s"
    lines = [line for line in printed.splitlines() if line.strip()]
    ended = f"ended with code {done.returncode} and without a word"
    return printed, (lines[-1] if lines else ended) if done.returncode else ""


def here(part: Part, given: argparse.Namespace, _: float) -> tuple[str, str]:
    """The same in this process, so that torch and the libraries are loaded once."""
    printed, error = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            part.run(TOY, Place(given.folder))
        except (Exception, SystemExit) as problem:  # noqa: BLE001 (whatever it is, the others go on)
            traceback.print_exc(file=printed)
            error = f"{type(problem).__name__}: {problem}"
    return printed.getvalue(), error


def commit() -> str:
    """The commit that is checked; empty where this is no repository, or files differ from the commit's."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout

    return "" if git("status", "--porcelain", "--untracked-files=no") else git("rev-parse", "HEAD").strip()


def write(folder: Path, outcomes: list[Outcome]) -> None:
    """All outcomes so far, for programs and for people."""
    whole = json.dumps([asdict(outcome) for outcome in outcomes], indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(whole + "\n", encoding="utf-8")
    lines = ["| part | case | measure | value | aim |", "|---|---|---|--:|---|"]
    for o in outcomes:
        lines.append(f"| **{o.part}** | {o.state} {o.error.replace('|', '/')} | | {o.seconds:.0f} s | |")
        for row in o.rows:
            value = f"{row['value']:,.4g} {row['unit']}".rstrip()
            lines.append(f"| | {row['case']} | {row['measure']} | {value} | {row['aim']} |")
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
