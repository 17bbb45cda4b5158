"""Mining after encoding, side by side with sentence-transformers and faiss, as ratios in one run.

    python bench/mining.py --rows 200000 --width 384

Both get the same made-up vectors (in groups, as texts are) and the same settings, those of the
paper's mining, and each runs in a process of its own, so that peak memory is its own. Ours is timed
whole: the command, from the pairs file to all four outputs, with vectors from the teacher's cache.
The library is timed on everything it does after encoding.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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
    teacher, store = Stored(folder), WorkStore(folder / "store")
    rows = list(read_pairs(folder / "raw.jsonl"))
    store.root.mkdir(exist_ok=True)
    VectorCache(store.root, teacher, "query").fill([r.query for r in rows], "bench")
    VectorCache(store.root, teacher, "passage").fill([r.positives[0] for r in rows], "bench")
    del rows
    mine.teacher_of = lambda job, texts: teacher
    settings = MineJob(range_max=RANGE_MAX, equality="exact", allow_query=True)
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
    parser.add_argument("--only", choices=["ours", "library"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        import torch

        torch.set_num_threads(given.threads)
        taken = run_ours(given.folder) if given.only == "ours" else run_library(given.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(taken | {"peak_gb": peak}))
        return
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        make(folder, given.rows, given.width)
        found = {}
        for name in ("ours", "library"):
            command = [sys.executable, __file__, "--only", name, "--folder", held]
            command += ["--threads", str(given.threads)]
            env = dict(os.environ, OMP_NUM_THREADS=str(given.threads))
            made = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env)
            found[name] = json.loads(made.stdout.splitlines()[-1])
            print(
                "{:8} {seconds:8.1f} s, processor {cpu_seconds:8.1f} s, {peak_gb:6.2f} GB".format(
                    name, **found[name]
                ),
                flush=True,
            )
        wall, processor, memory = (
            found["library"][what] / found["ours"][what] for what in ("seconds", "cpu_seconds", "peak_gb")
        )
        print(
            f"{given.rows} x {given.rows} x {given.width}, {given.threads} threads: the library takes "
            f"{wall:.2f} times as long, {processor:.2f} times the processor's time and {memory:.2f} times "
            f"the memory; {100 * agreement(folder):.3f} % of rows have the same negatives"
        )


if __name__ == "__main__":
    main()
