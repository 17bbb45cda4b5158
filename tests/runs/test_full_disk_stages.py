"""Stages on a disk that is nearly full: one sentence, no traceback, and a result once there is room."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from micro_study import write_given
from realign.cli import main as realign

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk"
    ),
]
TRAINING = {"optimisation": {"steps": 3}, "hardware": {"micro_batch": 2, "checkpoint_every": 1}}
MEASURES = {
    "corpus": "words",
    "stage": "backbone",
    "pair": "base--vs--tuned",
    "kind": "rlvr",
    "study": "micro",
}
# Settings, inputs below the folder of what is given, outputs, and kilobytes that are free: too few for these.
STAGES = {
    "extract": (
        {"model_name": "base", "corpus_name": "words", "attention": "causal"},
        {"model": ["base"], "corpus": ["texts.jsonl"]},
        ["states", "pooled"],
        100,
    ),
    "mine": (
        {"lexical": {}, "dataset": "topics", "study": "micro"},
        {"raw": ["pairs.jsonl"]},
        ["pairs", "candidates", "report", "tidy"],
        100,
    ),
    "pretrain": (
        TRAINING
        | {
            "architecture": {"layers": 2, "width": 16, "feed_forward": 32, "heads": 2, "key_value_heads": 1,
                             "head_width": 8, "positions": 128},
            "tokenizer": {"vocabulary": 300}, "batch": 4, "length": 64, "held_out": 0.2,
        },
        {"text": ["texts.jsonl"], "problems": ["problems.jsonl"]},
        ["model", "history"],
        100,
    ),
    "sft": (
        TRAINING | {"batch": 4, "length": 64},
        {"base": ["base"], "problems": ["problems.jsonl"]},
        ["model", "history"],
        100,
    ),
    "rlvr": (
        TRAINING | {"batch": 2, "rollouts": {"group": 2, "max_new_tokens": 4}},
        {"base": ["base"], "problems": ["problems.jsonl"]},
        ["model", "history"],
        100,
    ),
    "train": (
        {
            "study": "micro", "backbone_name": "base", "recipe_name": "full", "seed": 0,
            "recipe": {"batches": {"size": 8, "negatives": 0, "query_tokens": 40, "passage_tokens": 40, "steps": 3},
                       "hardware": {"processes": 1}},
        },
        {"backbone": ["base"], "data": ["pairs.jsonl"]},
        ["model", "checkpoints", "training-log", "tidy"],
        100,
    ),
    "evaluate": (
        {"task": "Topics", "type": "retrieval", "model_name": "base", "max_length": 32},
        {"model": ["base"], "data": [f"topics/{name}.jsonl" for name in ("corpus", "queries", "qrels")]},
        ["scores", "record", "queries"],
        10,
    ),
    "hrsa_linear": (
        {"context": MEASURES},
        {"left": ["base.h5"], "right": ["tuned.h5"]},
        ["measures", "matrices"],
        30,
    ),
    "figure_1": ({"plate": "figure_1"}, {}, ["svg", "pdf", "png", "csv"], 30),
    "report": ({}, {"study": ["study.json"]}, ["html"], 10),
}  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What the stages read, on a disk with room."""
    folder = tmp_path_factory.mktemp("given")
    write_given(folder)
    sums = [{"id": str(i), "question": f"{i} + 1?", "answer": str(i + 1), "trace": f"Answer: {i + 1}",
             "task": "sum", "difficulty": 1} for i in range(20)]  # fmt: skip
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    (folder / "study.json").write_text(json.dumps({"name": "micro"}))
    for model in ("base", "tuned"):
        settings = {"model_name": model, "corpus_name": "words", "attention": "causal"}
        words = [f"--model={folder / model}", f"--corpus={folder / 'texts.jsonl'}"]
        words += [f"--states={folder / model}.h5", f"--pooled={folder / model}.pooled.h5"]
        assert (
            realign(["extract", "--settings", json.dumps(settings), "--store", str(folder / "store"), *words])
            == 0
        )
    return folder


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def leave_free(disk: Path, kilobytes: int) -> Path:
    """Fill a disk up to so many kilobytes; the file that does it."""
    there = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, there.f_bavail * there.f_frsize - kilobytes * 1024)
    return filler


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_sentence_and_the_rest_goes_on_with_room(stage, small_disk, given):
    settings, inputs, outputs, free = STAGES[stage]
    job = {"settings": settings, "store": str(small_disk / "store")}
    words = [sys.executable, "-m", "realign.cli", stage, "--job", json.dumps(job), "--threads", "1"]
    words += ["--log", str(small_disk / "log.txt")]
    for name, files in inputs.items():
        words += [f"--{name}", *(str(given / file) for file in files)]
    words += [w for name in outputs for w in (f"--{name}", str(small_disk / name))]
    filler = leave_free(small_disk, free)
    full = subprocess.run(words, capture_output=True, text=True)
    assert full.returncode == 1, full.stderr
    assert full.stderr.count("the disk is full") == 1, full.stderr
    assert f"{small_disk}" in full.stderr
    assert "Traceback" not in full.stderr
    assert not any((small_disk / name).exists() for name in outputs)
    filler.unlink()
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all((small_disk / name).exists() for name in outputs)
