"""Stages on a disk that is nearly full: one sentence, no traceback, and a result once there is room."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from micro_study import write_given

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk"
    ),
]
STAGES = {
    "extract": (
        {"model_name": "base", "corpus_name": "words", "attention": "causal"},
        {"model": "base", "corpus": "texts.jsonl"},
        ["states", "pooled"],
    ),
    "mine": (
        {"lexical": {}, "dataset": "topics", "study": "micro"},
        {"raw": "pairs.jsonl"},
        ["pairs", "candidates", "report", "tidy"],
    ),
}


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
def test_a_full_disk_is_one_sentence_and_the_rest_goes_on_with_room(stage, small_disk, tmp_path):
    settings, inputs, outputs = STAGES[stage]
    write_given(tmp_path / "given")
    words = [sys.executable, "-m", "realign.cli", stage, "--store", str(small_disk / "store")]
    words += ["--log", str(small_disk / "log.txt"), "--threads", "1", "--settings", json.dumps(settings)]
    words += [w for name, file in inputs.items() for w in (f"--{name}", str(tmp_path / "given" / file))]
    words += [w for name in outputs for w in (f"--{name}", str(small_disk / name))]
    filler = leave_free(small_disk, 100)
    full = subprocess.run(words, capture_output=True, text=True)
    assert full.returncode == 1
    assert full.stderr.count("the disk is full") == 1, full.stderr
    assert f"{small_disk}" in full.stderr
    assert "Traceback" not in full.stderr
    assert not any((small_disk / name).exists() for name in outputs)
    filler.unlink()
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all((small_disk / name).exists() for name in outputs)
