"""What the tests of mining share, and, as a program, a mining job that a test may kill.

python mining_driver.py FOLDER SEED [PART]
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np


class TableTeacher:
    """A teacher whose vectors were written down beforehand; it counts what it is asked."""

    def __init__(self, vectors, name="table"):
        self.vectors, self.name = vectors, name
        self.asked = Counter()

    def identity(self, side):
        return {"kind": "table", "name": self.name}

    def encode(self, texts, side):
        self.asked.update(texts)
        return np.stack([self.vectors[text] for text in texts]).astype(np.float32)


class SlowTeacher(TableTeacher):
    """Takes its time, and writes down what it was asked as soon as it is asked."""

    def __init__(self, vectors, folder):
        super().__init__(vectors)
        self.folder = folder

    def encode(self, texts, side):
        with (self.folder / "encoded.log").open("ab") as stream:
            stream.write(b".")
        time.sleep(0.15)
        with (self.folder / "texts.log").open("a", encoding="utf-8") as stream:
            stream.write("".join(f"{text}\n" for text in texts))
        return super().encode(texts, side)


def dataset(seed, count, width=12):
    """Rows (query, positives, negatives) and a vector for each text; a query is near its positive."""
    rng = np.random.default_rng(seed)
    rows, vectors = [], {}
    for i in range(count):
        positive = rng.standard_normal(width)
        query = positive + 0.5 * rng.standard_normal(width)
        for text, vector in ((f"passage {seed} {i}", positive), (f"query {seed} {i}", query)):
            vectors[text] = (vector / np.linalg.norm(vector)).astype(np.float32)
        rows.append((f"query {seed} {i}", [f"passage {seed} {i}"], []))
    return rows, vectors


def write_rows(path: Path, rows) -> Path:
    """Write (query, positives, negatives) rows as pairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for query, positives, negatives in rows:
            record = {"query": ["Instruct: t\nQuery: ", query], "pos": positives, "neg": negatives}
            stream.write(json.dumps(record) + "\n")
    return path


def read_rows(path: Path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main(folder: Path, seed: int, part: str = "") -> None:
    from realign.artifacts.command import execute
    from realign.artifacts.store import WorkStore
    from realign.mining import cache, mine, pool
    from realign.mining.commands import MINE
    from realign.study.mining import MineJob

    folder.mkdir(parents=True, exist_ok=True)
    rows, vectors = dataset(seed, 100)
    if part:
        rows = rows[:70] if part == "first" else rows[30:]
    raw = write_rows(folder / f"raw{part}.jsonl", rows)
    cache.SHARD_TEXTS, pool.SHARD_QUERIES = 25, 20
    mine.teacher_of = lambda job, texts: SlowTeacher(vectors, folder)
    places = {
        name: folder / f"{name}{part}.out" for name in ("pairs", "candidates", "margins", "report", "tidy")
    }
    settings = MineJob(range_max=20, dataset=part or "dataset")
    execute(MINE, settings, {"raw": raw}, places, WorkStore(folder / "store"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
