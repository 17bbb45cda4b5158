"""The text rules through the real workflow at a small size: made once, then only what a change touches."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from realign.artifacts import fingerprint
from realign.runs.dag import planned_jobs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SNAKEFILE = """
include: "workflow/rules/common.smk"
rule all:
    input:
        lambda wc: [path for paths in TARGETS.values() for path in paths],
    default_target: True
include: "workflow/rules/text.smk"
"""
STUDY = {
    "study": {"name": "small"},
    "backbones": {},
    "mining": {"lexical": {}},
    "data": {
        "datasets": {
            "docs": {"embedded": "summary-description"},
            "code": {"embedded": "description-code"},
            "own": {"file": "own.jsonl"},
        }
    },
    "text": {
        "train_packages": ["numpy"],
        "heldout_packages": ["networkx", "pyparsing"],
        "pretrain_mb": 0.3,
        "pairs": 150,
        "queries": 40,
        "corpus": 80,
        "items": 60,
        "topics": 4,
        "problems": {"pretrain": 60, "train": 30, "heldout": 10},
        "probes": {
            "reasoning": {"embedded": "reasoning", "limit": 40},
            "docs": {"embedded": "docs", "limit": 40},
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text-study")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "config.yaml").write_text(json.dumps(STUDY))
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    (folder / "own.jsonl").write_text('{"query": "q", "pos": ["p"], "neg": ["n"]}\n')
    words = [sys.executable, "-m", "snakemake", "--cores", "1", "all"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
    environment.pop("REALIGN_RUN", None)
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture
def stale(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("REALIGN_RUN", raising=False)

    def jobs(**change):
        planned = planned_jobs(folder / "Snakefile", folder, config=change)
        return {job.name for job in planned if not job.follows}

    return jobs


def test_everything_is_made_once(folder, stale):
    text = folder / "results" / "small" / "text"
    for name in ("pairs/docs.jsonl", "pairs/own.jsonl", "probes/reasoning.jsonl", "tasks/DocsSTS/test.jsonl"):
        assert (text / name).stat().st_size
    assert (text / "tasks" / "DocsSTS.manifest.json").is_file()
    assert stale() == set()


def test_a_change_of_settings_reaches_its_own_jobs_only(stale):
    assert stale(text={"items": 80}) == {"corpora"}
    assert stale(text={"problems": {"train": 40}}) == {"problems"}
    assert stale(text={"probes": {"docs": {"limit": 30}}}) == {"probe_corpus(corpus=docs)"}
    assert stale(data={"datasets": {"code": {"limit": 50}}}) == {"pairs(dataset=code)"}
    assert stale(data={"datasets": {"own": {"duplicates": "keep"}}}) == {"pairs(dataset=own)"}
    assert stale(data={"datasets": {"own": {"mined": False}}}) == set()


def test_another_version_of_a_package_makes_the_corpora_stale(stale, monkeypatch):
    from realign.study import text

    monkeypatch.setattr(text, "installed", lambda package: "9.9" if package == "networkx" else real(package))
    assert stale() == {"corpora"}


def real(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        ("realign.text.docstrings", {"corpora"}),
        ("realign.text.kinds", {"problems"}),
        ("realign.text.fetch", set()),
        ("realign.text.tool", set()),
        ("realign.text.datasets", {"pairs(dataset=code)", "pairs(dataset=docs)", "pairs(dataset=own)"}),
        ("realign.text.probes", {"probe_corpus(corpus=docs)", "probe_corpus(corpus=reasoning)"}),
    ],
)
def test_a_change_of_code_reaches_its_own_jobs_only(stale, monkeypatch, module, rules):
    read = fingerprint._read

    def edited(name, path):
        digest, named = read(name, path)
        return ("edited" if name == module else digest), named

    monkeypatch.setattr(fingerprint, "_read", edited)
    assert stale() == rules
