"""Single measures side by side with another library, which lives in an environment of its own.

    python bench/single_measures.py [--tokens 1000] [--width 128] [--layers 4] [--peers FOLDER]

Linear CKA of every layer of one model with every layer of another. The peer (repsim, C++) gives the values;
ours gives them with 95 % intervals, and correlation and Procrustes besides. The values must agree.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np
from measured import measured

HERE = Path(__file__).parent
PEER = """
import json, sys, time
import numpy as np, repsim
states = np.load(sys.argv[1])
times = []
for _ in range(3):
    started = time.process_time()
    found = repsim.cka(list(states), "linear")
    times.append(time.process_time() - started)
np.save(sys.argv[2], found)
print(json.dumps(times))
"""


def peers(folder: Path) -> Path:
    """The Python that has the peers; made once."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / "peers.txt"], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--peers", type=Path, default=HERE.parent / "build" / "peers")
    given = parser.parse_args()
    random = np.random.default_rng(0)
    left = random.standard_normal((given.layers, given.tokens, given.width))
    mix = random.standard_normal((given.width, given.width)) / given.width**0.5
    right = left @ (np.eye(given.width) + mix / 2) + random.standard_normal(left.shape) / 2
    with tempfile.TemporaryDirectory() as folder:
        both, out = Path(folder, "states.npy"), Path(folder, "cka.npy")
        np.save(both, np.concatenate([left, right]))
        threads = dict(os.environ, OMP_NUM_THREADS="1")
        done = subprocess.run(
            [peers(given.peers), "-c", PEER, both, out],
            check=True,
            capture_output=True,
            text=True,
            env=threads,
        )
        theirs, values = statistics.median(json.loads(done.stdout)), np.load(out)
    times = []
    from realign.hrsa import compare

    for _ in range(3):
        started = time.process_time()
        table = compare(left, right, families=["linear"])
        times.append(time.process_time() - started)
    rows = table[(table["measure"] == "cka") & (table["statistic"] == "value")]
    ours = rows.pivot(index="layer_left", columns="layer_right", values="value").to_numpy()
    off = float(np.abs(ours - values[: given.layers, given.layers :]).max())
    assert off < 1e-4, f"the values differ by {off}"
    case = f"{given.layers} × {given.layers} layers, {given.tokens:,} tokens × {given.width}, one thread"
    measured(case, "linear CKA alone, repsim, processor time", round(theirs, 2), "s")
    measured(
        case, "CKA, correlation, Procrustes with intervals, ours", round(statistics.median(times), 2), "s"
    )
    measured(case, "largest difference of a CKA", off)


if __name__ == "__main__":
    sys.exit(main())
