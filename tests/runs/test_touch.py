"""An edited module in a real run: the guard stops it, `touch` accepts it, and nothing is redone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
study: {name: small}
backbones: {base: {pretrain: {}}}
data: {datasets: {mine: {file: raw.jsonl, mined: false}}}
resources: {redo_gpu_hours: 0, rules: {pairs: {gpus: 1}}}
"""
# Of the workflow only what this takes: each Snakemake costs seconds.
SNAKEFILE = """
include: "rules/common.smk"
rule all:
    input: f"{R}/text/pairs/mine.jsonl"
include: "rules/text.smk"
"""
MADE = "results/small/text/pairs/mine.jsonl"


@pytest.fixture
def project(tmp_path):
    """A copy of the project, whose code can be edited, with a study of one step."""
    for name in ("workflow", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "workflow/Snakefile").write_text(SNAKEFILE)
    (tmp_path / "config.yaml").write_text(STUDY)
    rows = [{"query": ["", f"question {i}"], "pos": [f"answer {i} to it"], "neg": []} for i in range(60)]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}

    def python(*words):
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    def run(*more):
        return python("snakemake", "--cores", "1", *more)

    def realign(*words):
        return python("realign.cli", *words)

    def edit(old, new):
        module = tmp_path / "src/realign/text/pairs.py"
        text = module.read_text()
        assert old in text
        module.write_text(text.replace(old, new))

    project.run, project.realign, project.edit, project.root = run, realign, edit, tmp_path
    return project


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_change_that_does_not_matter_costs_nothing(project):
    assert project.run().returncode == 0
    made = json.loads((project.root / f"{MADE}.provenance.json").read_text())

    project.edit("import hashlib\n", "import hashlib\n\nUNUSED = 1\n")
    stopped = project.run()
    assert stopped.returncode != 0
    assert "realign.text.pairs: pairs 1" in stopped.stderr
    assert "accept_cost=1" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert (project.root / MADE).is_file()  # it stopped before anything was deleted

    touched = project.realign("touch", "--stage", "pairs", "--reason", "a constant nobody reads")
    assert touched.stdout == "    1  pairs: accepted (realign.text.pairs)\n", touched.stderr
    plan = project.realign("plan").stdout
    assert "code: realign.text.pairs" in plan
    assert plan.count("kept: seconds") == 2  # the step and the sum
    assert "accept_cost" not in plan
    went_on = project.run()
    assert went_on.returncode == 0, went_on.stderr
    again = json.loads((project.root / f"{MADE}.provenance.json").read_text())
    assert (again["made"], again["seconds"]) == (made["made"], made["seconds"])
    (accepted,) = again["accepted"]
    assert accepted["reason"] == "a constant nobody reads"
    assert accepted["made_with_code"] == made["code"] != again["code"]

    project.edit("UNUSED = 1", "UNUSED = 2")
    assert project.run("--config", "accept_cost=1").returncode == 0
    redone = json.loads((project.root / f"{MADE}.provenance.json").read_text())
    assert "accepted" not in redone
    assert redone["code"] not in (made["code"], again["code"])
