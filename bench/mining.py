"""Mining after encoding, side by side with sentence-transformers and faiss, as ratios in one run.

    python bench/mining.py                              20,000 rows, three rounds
    python bench/mining.py --rows 200000 --rounds 1

Both get the same made-up vectors (in groups, as texts are) and the same settings, those of the
paper's mining, and each runs in a process of its own, so that peak memory is its own. Ours is timed
whole: the command, from the pairs file to all four outputs, with vectors from the teacher's cache.
The library (sentence-transformers, with faiss) is timed on everything it does after encoding. Both
run once a round, one after the other and each first in every other round, so that what else the
machine does falls on both; a ratio is the median of the rounds' ratios.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measured import measured, spread

RANGE_MAX = 100


def make(folder: Path, rows: int, width: int) -> None:
    """Vectors of queries and passages, and the pairs file that names them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, rows // 20), width), dtype=np.float32)
    passages = centres[rng.integers(0, len(centres), rows)]
    passages += 1.2 * rng.standard_normal((rows, width), dtype=np.float32)
    queries = passages + 0.9 * rng.standard_normal((rows, width), dtype=np.float32)
    for name, made in (("query", queries), ("passage", passages)):
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        np.save(folder / f"{name}.npy", made)
    with (folder / "raw.jsonl").open("w", encoding="utf-8") as stream:
        for i in range(rows):
            row = {"query": ["", f"query number {i}"], "pos": [f"passage number {i}"], "neg": []}
            stream.write(json.dumps(row) + "\n")


class Stored:
    """A teacher whose vectors lie in a file."""

    def __init__(self, folder: Path):
        self.folder = folder

    def identity(self, side: str) -> dict:
        return {"kind": "stored", "side": side}

    def encode(self, texts: list[str], side: str) -> np.ndarray:
        held = np.load(self.folder / f"{side}.npy", mmap_mode="r")
        return held[[int(text.rsplit(" ", 1)[1]) for text in texts]]


class Watch:
    """Seconds since it was made: on the wall, and of the processor, which other work disturbs less."""

    def __init__(self):
        self.started = time.perf_counter(), time.process_time()

    def read(self) -> dict:
        wall, processor = self.started
        return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}


def run_ours(folder: Path) -> dict:
    from realign.artifacts.command import execute
    from realign.artifacts.store import WorkStore
    from realign.engine.logs import start_logging
    from realign.mining import mine
    from realign.mining.cache import VectorCache
    from realign.mining.commands import MINE
    from realign.study.mining import MineJob
    from realign.text.pairs import read_pairs

    start_logging()
    shutil.rmtree(folder / "store", ignore_errors=True)  # which would give back an earlier round's result
    teacher, store = Stored(folder), WorkStore(folder / "store")
    rows = list(read_pairs(folder / "raw.jsonl"))
    store.root.mkdir(exist_ok=True)
    VectorCache(store.root, teacher, "query").fill([r.query for r in rows], "bench")
    VectorCache(store.root, teacher, "passage").fill([r.positives[0] for r in rows], "bench")
    del rows
    mine.teacher_of = lambda job, texts: teacher
    import pandas  # noqa: F401 (imports are timed on neither side; the library has imported it already)

    settings = MineJob(range_max=RANGE_MAX, range_counts="all", equality="exact", allow_query=True)
    places = {name: folder / f"{name}.out" for name in ("pairs", "candidates", "report", "tidy")}
    watch = Watch()
    execute(MINE, settings, {"raw": folder / "raw.jsonl"}, places, store)
    return watch.read()


def run_library(folder: Path) -> dict:
    from types import SimpleNamespace

    import datasets
    import torch
    from sentence_transformers.util import mine_hard_negatives

    class Model:
        device = torch.device("cpu")
        model_card_data = SimpleNamespace(base_model="stored")

        def encode_query(self, texts, **_):
            return np.load(folder / "query.npy")

        def encode_document(self, texts, **_):
            return np.load(folder / "passage.npy")

        def get_embedding_dimension(self):
            return int(np.load(folder / "query.npy", mmap_mode="r").shape[1])

        def similarity_pairwise(self, a, b):
            return (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1)

    rows = [json.loads(line) for line in (folder / "raw.jsonl").open(encoding="utf-8")]
    table = datasets.Dataset.from_dict(
        {"query": [r["query"][1] for r in rows], "positive": [r["pos"][0] for r in rows]}
    )
    del rows
    watch = Watch()
    mined = mine_hard_negatives(
        table,
        Model(),
        relative_margin=0.05,
        num_negatives=3,
        range_max=RANGE_MAX,
        sampling_strategy="top",
        output_format="n-tuple",
        use_faiss=True,
        verbose=False,
    )
    mined.to_json(folder / "library.jsonl")
    return watch.read()


RUNS = {"ours": run_ours, "library": run_library}
QUANTITIES = (
    ("seconds", "time", "s", "≥ 1"),
    ("cpu_seconds", "processor time", "s", "≥ 1"),
    ("peak_gb", "peak memory", "GB", "≥ 1"),
)


def agreement(folder: Path) -> float:
    """The share of rows with the same negatives from both."""
    ours = {
        row["query"][1]: row["neg"] for row in map(json.loads, (folder / "pairs.out").open(encoding="utf-8"))
    }
    same = total = 0
    for row in map(json.loads, (folder / "library.jsonl").open(encoding="utf-8")):
        total += 1
        same += ours.get(row["query"]) == [row[f"negative_{i}"] for i in (1, 2, 3)]
    return same / max(total, len(ours))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="queries, and as many passages")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="how often each of the two runs")
    parser.add_argument("--only", choices=["make", *RUNS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only == "make":
        make(given.folder, given.rows, given.width)
    elif given.only:
        run_alone(given.only, given.folder, given.threads)
    else:
        compare(given.rows, given.width, given.threads, given.rounds)


def run_alone(name: str, folder: Path, threads: int) -> None:
    """One of the two in this process, which prints what it took."""
    import torch

    torch.set_num_threads(threads)
    taken = RUNS[name](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(taken | {"peak_gb": peak}))


def compare(rows: int, width: int, threads: int, rounds: int) -> None:
    """Run both in turns, and print what each took and the ratios."""
    case = f"{rows:,} × {rows:,} × {width}, {threads} threads"
    with tempfile.TemporaryDirectory() as held:

        def start(name: str) -> str:
            # a child's peak memory begins with its parent's, so this process holds no vectors
            command = [sys.executable, __file__, "--only", name, "--folder", held]
            command += ["--rows", str(rows), "--width", str(width), "--threads", str(threads)]
            env = dict(os.environ, OMP_NUM_THREADS=str(threads))
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env, text=True).stdout

        start("make")
        found = [
            {name: json.loads(start(name).splitlines()[-1]) for name in order} for order in orders(rounds)
        ]
        same = agreement(Path(held))
    tell(case, found)
    measured(case, "rows with the same negatives", 100 * same, "%")


def orders(rounds: int) -> list[list[str]]:
    """Which of the two runs first, round by round."""
    return [list(RUNS)[:: -1 if round_ % 2 else 1] for round_ in range(rounds)]


def tell(case: str, rounds: list[dict[str, dict]]) -> None:
    """Print the medians over the rounds with their ranges; a ratio is within a round."""
    for key, what, unit, aim in QUANTITIES:
        for name in RUNS:
            spread(case, f"{what}, {name}", [taken[name][key] for taken in rounds], unit)
        ratios = [taken["library"][key] / taken["ours"][key] for taken in rounds]
        spread(case, f"{what}, library / ours", ratios, "×", aim)


if __name__ == "__main__":
    main()
