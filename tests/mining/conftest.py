"""What the tests of mining share: a small dataset, its vectors, and a job that runs here."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from realign.artifacts.command import Job
from realign.artifacts.store import WorkStore
from realign.mining.commands import MARGIN_FILTER, MINE


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


def write_rows(path: Path, rows) -> Path:
    """Write (query, positives, negatives) rows as pairs."""
    with path.open("w", encoding="utf-8") as stream:
        for query, positives, negatives in rows:
            record = {"query": ["Instruct: t\nQuery: ", query], "pos": positives, "neg": negatives}
            stream.write(json.dumps(record) + "\n")
    return path


def read_rows(path: Path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def job_for(tmp_path):
    """Makes a job that works in this test's own store."""

    def make(settings, inputs, name="one", command=MINE):
        work = WorkStore(tmp_path / "store").work(command.name, name)
        work.begin()
        return Job(command, settings, inputs, work)

    return make


@pytest.fixture
def margin_command():
    return MARGIN_FILTER
