"""The rules for real: one process does the small tasks, single jobs publish, holes stay holes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from realign.artifacts.manifest import make_manifest, manifest_path

ROOT = Path(__file__).resolve().parents[2]
SNAKEFILE = f"""
include: "{ROOT}/workflow/rules/common.smk"

rule all:
    input: lambda wc: TARGETS["scores"]
    default_target: True

include: "{ROOT}/workflow/rules/evaluate.smk"
"""


@pytest.fixture
def study(tmp_path, backbone, tasks):
    """A study of one untrained backbone on three tasks, everything it needs in place."""
    model = tmp_path / "results/toy/backbones/base/model"
    shutil.copytree(backbone, model)
    manifest_path(model).write_text(make_manifest(model).dump())
    for kind in ("sts", "classification", "retrieval"):
        shutil.copytree(tasks / kind, tmp_path / "data" / kind)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    content = {
        "study": {"name": "toy"},
        "backbones": {"base": {"path": "unused"}},
        "evaluation": {
            "backbones": True,
            "max_length": 64,
            "tasks": {
                "OwnSTS": {"type": "sts", "path": "data/sts"},
                "OwnTopics": {
                    "type": "classification",
                    "path": "data/classification",
                    "options": {"n_experiments": 2},
                },
                "OwnSearch": {"type": "retrieval", "path": "data/retrieval"},
            },
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    return tmp_path


def snakemake(folder, *words, **variables):
    environment = {
        **os.environ,
        **variables,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environment.pop("REALIGN_RUN", None)
    line = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-triggers", "mtime", "input", "params"]
    return subprocess.run(
        [*line, "--workflow-profile", "none", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_tasks_share_a_process_and_a_failed_one_leaves_no_mean(study):
    scores = study / "results/toy/scores/base"
    done = snakemake(study)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((scores / "warm/1.json").read_text())
    assert report == {"OwnSTS": "done", "OwnTopics": "done", "OwnSearch": "done"}
    logs = [p.read_text() for p in (study / "results/toy/logs/publish_scores/base").glob("*.log")]
    assert len(logs) == 3
    assert all("already made" in log for log in logs)
    table = pd.read_parquet(study / "results/toy/tidy/scores/base.parquet")
    assert (table.metric == "mean_over_tasks").sum() == 1
    assert set(table[table.metric == "main_score"].task) == {"OwnSTS", "OwnTopics", "OwnSearch"}
    queries = pd.read_parquet(study / "results/toy/tidy/queries/base.parquet")
    searched = table[(table.task == "OwnSearch") & (table.metric == "ndcg_at_10")].value.item()
    assert set(queries.task) == {"OwnSearch"}
    assert queries.value.mean() == pytest.approx(searched, abs=1e-5)

    # A lost score comes back, by publishing it again.
    lost = (scores / "OwnSTS.json").read_bytes()
    (scores / "OwnSTS.json").unlink()
    done = snakemake(study)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (scores / "OwnSTS.json").read_bytes() == lost

    # A task whose texts are damaged fails alone; the others stay, and so does the hole.
    whole = (study / "data/classification/test.jsonl").read_bytes()
    with (study / "data/classification/test.jsonl").open("a") as stream:
        stream.write('{"text": "no label"}\n')
    done = snakemake(study, "--keep-going")
    assert done.returncode != 0
    log = (study / "results/toy/logs/publish_scores/base/OwnTopics.log").read_text()
    assert "test.jsonl, line 31: no column 'label'" in log
    assert not (scores / "OwnTopics.json").exists()
    done = snakemake(study, "scores_partial")
    assert done.returncode == 0, done.stderr[-3000:]
    partial = pd.read_parquet(study / "results/toy/partial/scores/base.parquet")
    assert set(partial.metric) == {"main_score", "cosine_spearman", "ndcg_at_10"}
    holes = json.loads((study / "results/toy/partial/scores/base.holes.json").read_text())
    assert holes == {"base": {"custom": ["OwnTopics"]}}

    # The next run tries it again by itself, and the task is whole again once its cause is.
    (study / "data/classification/test.jsonl").write_bytes(whole)
    done = snakemake(study)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(json.loads((scores / "warm/2.json").read_text()).values()) == {"done"}
    assert (scores / "OwnTopics.json").is_file()
    assert "Nothing to be done" in snakemake(study).stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_not_done_is_told_once_and_done_by_the_next_run(study):
    done = snakemake(study)
    assert done.returncode == 0, done.stderr[-3000:]
    scores, logs = study / "results/toy/scores/base", study / "results/toy/logs"

    # As if the machine had failed one task: its work is gone, and so is what it published.
    found = (logs / "publish_scores/base/OwnTopics.log").read_text()
    shutil.rmtree(study / re.search(r"publishing from (\S+)", found)[1])
    (scores / "OwnTopics.json").unlink()
    done = snakemake(study)
    assert done.returncode != 0
    assert (
        "not done, and this job only publishes what evaluate_warm does"
        in (logs / "publish_scores/base/OwnTopics.log").read_text()
    )
    report = scores / "warm/1.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"OwnTopics": "failed: out of luck"}))
    done = snakemake(study)
    assert done.returncode == 0, done.stderr[-3000:]
    log = (logs / "evaluate_warm/base.2.log").read_text()
    assert log.count("evaluate: working in") == 1
    assert log.count("evaluate: already made") == 2
    assert "Nothing to be done" in snakemake(study).stderr
