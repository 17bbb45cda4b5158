"""What starting costs: processor time and peak memory of our doors, and of the libraries behind them.

    python bench/footprint.py [--repeats 3]

In a workflow of many small jobs, imports are most of the time. Each row is a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys

from measured import measured

DOORS = {
    "realign --help": "from realign.cli import main; main(['--help'])",
    "a study, checked": "from realign.study.load import load_study; load_study('config.yaml')",
    "a finished job, published again: imports": "import realign.cli, realign.artifacts.command, realign.artifacts.store",
    "figures: imports": "import realign.tools.figures, matplotlib.figure, pandas",
    "similarity: imports": "import realign.hrsa.api",
    "training: imports": "import realign.training.train",
    "evaluation: imports": "import realign.evaluation.evaluate",
    "numpy alone": "import numpy",
    "torch alone": "import torch",
    "transformers' model classes alone": "from transformers import AutoModel",
    "sentence-transformers alone": "import sentence_transformers",
    "mteb alone": "import mteb",
    "deepspeed alone": "import deepspeed",
}
CHILD = """
import contextlib, io, json, resource
with contextlib.redirect_stdout(io.StringIO()):
    exec({code!r})
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def start(code: str) -> tuple[float, float]:
    """Processor seconds and peak megabytes of a process that does this."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(code=code)], check=True, capture_output=True, text=True
    )
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    for name, code in DOORS.items():
        start(code)  # fills the file cache
        seconds, megabytes = zip(*(start(code) for _ in range(repeats)), strict=True)
        measured(name, "processor time", round(statistics.median(seconds), 2), "s")
        measured(name, "peak memory", round(statistics.median(megabytes)), "MB")


if __name__ == "__main__":
    main()
