"""Datasets from a hub: fetched once at the pinned revision, then evaluated with the hub switched off."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import config
from evaluation_hub_server import DatasetHub

from realign.artifacts.command import execute
from realign.artifacts.store import WorkStore
from realign.evaluation.commands import EVALUATE
from realign.evaluation.dataset_cache import dataset_cache
from realign.study.benchmarks import tasks as known_tasks
from realign.study.evaluation import EvaluateTask

REPO, PINNED = (known_tasks()["STS12"][key] for key in ("dataset", "revision"))
NEWER = "f" * 40


def realign(hub, place, *words):
    """A command in a process of its own, as users run it, with the stand-in for their hub."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "-m", "realign.cli", *map(str, words), "--store", str(place / "store")],
        env=clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(place / "hf")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def fetch(hub, place):
    words = ["--task", "STS12", "--revision", f"'{PINNED}'", "--record", place / "out/datasets/STS12.json"]
    return realign(hub, place, "fetch_task", "--force", *words)


def evaluate(hub, place, model):
    words = ["--model", model, "--tasks", "STS12", "--out", place / "out", "--threads", "1", "--force"]
    return realign(hub, place, "evaluate", *words)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fetched_at_the_pinned_revision_and_evaluated_without_the_hub(backbone, tasks, tmp_path):
    rows = (tasks / "sts/test.jsonl").read_bytes()
    other = b'{"sentence1": "a", "sentence2": "b", "score": 1.0}\n' * 3
    card = {"README.md": b"# Pairs\n"}
    with DatasetHub(REPO, {PINNED: card | {"test.jsonl": rows}, NEWER: card | {"test.jsonl": other}}) as hub:
        done = fetch(hub, tmp_path)
        assert done.returncode == 0, done.stderr
        record = json.loads((tmp_path / "out/datasets/STS12.json").read_text())
        assert (record["dataset"]["revision"], record["rows"]) == (PINNED, {"test": 60})

        hub.asked.clear()
        done = evaluate(hub, tmp_path, backbone)
        assert done.returncode == 0, done.stderr
        assert not hub.asked
        scores = json.loads((tmp_path / "out/STS12.json").read_text())
        assert scores["dataset_revision"] == PINNED
        places = {"scores": tmp_path / "own.json", "record": tmp_path / "record.json"}
        asked = EvaluateTask(task="own", type="sts", languages=["eng-Latn"])
        inputs = {"model": backbone, "data": [tasks / "sts/test.jsonl"]}
        execute(EVALUATE, asked, inputs, places, WorkStore(tmp_path / "own"))
        same = json.loads(places["scores"].read_text())["scores"]["test"][0]["main_score"]
        assert scores["scores"]["test"][0]["main_score"] == pytest.approx(same, abs=1e-6)

        # A cache file that lost its end is no shorter test set but an error that says what to do.
        kept = next((tmp_path / "hf").rglob("*-test.arrow"))
        kept.write_bytes(kept.read_bytes()[:200])
        done = evaluate(hub, tmp_path, backbone)
        assert done.returncode == 1
        assert "Delete that folder and fetch them again" in done.stderr
        folder = next(p for p in kept.parents if p.name.startswith("pinned-"))
        assert str(folder) in done.stderr
        assert not (tmp_path / "out/STS12.json").exists()

        # A cache that was cleared is filled again, whatever the work store knows of it.
        shutil.rmtree(folder)
        assert fetch(hub, tmp_path).returncode == 0
        assert next(folder.rglob("*-test.arrow")).stat().st_size > 200


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_revision_that_the_hub_no_longer_has(tmp_path):
    with DatasetHub(REPO, {NEWER: {"README.md": b"# Pairs\n"}}) as hub:
        done = fetch(hub, tmp_path)
    assert done.returncode == 1
    assert f"STS12: could not fetch {REPO} at revision {PINNED}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/datasets/STS12.json").exists()


def test_each_pinned_revision_has_a_cache_of_its_own():
    """`datasets` offline takes the latest revision of a cache, whichever was asked for."""

    def folder(revision):
        dataset = {"path": REPO, "revision": revision}
        with dataset_cache(SimpleNamespace(metadata=SimpleNamespace(dataset=dataset))) as own:
            assert own == config.HF_DATASETS_CACHE
            return own

    before = config.HF_DATASETS_CACHE
    assert folder(PINNED) == folder(PINNED) != folder(NEWER)
    assert before == config.HF_DATASETS_CACHE
    assert Path(before) in folder(PINNED).parents
