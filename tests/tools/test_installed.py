"""Realign as a wheel, without its repository: an empty folder, a study run to its report, a module."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from micro_study import ROOT, STUDY, write_given

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Another workflow that uses Realign twice, each time with a study, a prefix and names of its own.
SNAKEFILE = """
from realign.runs.flow import find_snakefile

configfile: "micro.yaml"

module one:
    snakefile: find_snakefile()
    config: config
    prefix: "first"

use rule * from one as one_*

other = config | {"study": {"name": "other", "seeds": [1]}}

module two:
    snakefile: find_snakefile()
    config: other
    prefix: "second"

use rule * from two as two_*

rule both:
    input: "second/results/other/report.html", "first/results/micro/mined/topics/pairs.jsonl"
    default_target: True
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's content, as pip installs it; the environment's own copy is hidden behind it."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", place, ROOT], check=True)
    (wheel,) = place.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", place / "site", wheel], check=True)
    return place / "site"


@pytest.fixture
def call(installed, tmp_path):
    """Call a program of the installed package in an empty folder."""
    environment = {k: v for k, v in os.environ.items() if k not in ("REALIGN_RUN", "PYTEST_CURRENT_TEST")}
    environment |= {"PYTHONPATH": str(installed), "PATH": f"{installed / 'bin'}:{environment['PATH']}"}

    def call(*words):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout + done.stderr

    return call


def test_an_empty_folder_is_enough_to_start_and_plan(call, installed, tmp_path):
    found = call("-c", "from realign.runs.flow import find_snakefile; print(find_snakefile())")
    assert Path(found.splitlines()[0]) == installed / "realign/_workflow/workflow/Snakefile"
    call("-m", "realign.cli", "init", "my.yaml")
    assert "fetch_hub" in call("-m", "realign.cli", "plan", "--configfile", "my.yaml", "--all")
    call("-m", "realign.cli", "init", "tiny.yaml", "--like", "tiny")
    assert "pretrain" in call("-m", "realign.cli", "plan", "--configfile", "tiny.yaml")
    assert {path.name for path in tmp_path.iterdir()} <= {"my.yaml", "tiny.yaml", ".snakemake"}


def test_its_code_has_the_fingerprints_of_the_repository(call):
    words = (
        "-c",
        "from realign.commands import STAGES, load_command as l; print([l(n).code for n in STAGES])",
    )
    here = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout
    assert call(*words).startswith(here)


def test_a_study_runs_to_its_report(call, tmp_path):
    write_given(tmp_path / "given")
    (tmp_path / "micro.yaml").write_text(yaml.safe_dump(STUDY))
    said = call("-m", "realign.cli", "run", "micro.yaml", "--cores", "2", "--quiet", "all")
    assert ["report", "results/micro/report.html"] in [line.split() for line in said.splitlines()]
    assert "<html" in (tmp_path / "results/micro/report.html").read_text()
    assert "Nothing to be done" in call("-m", "realign.cli", "plan", "--configfile", "micro.yaml")
    assert "done" in call("-m", "realign.cli", "status", "--configfile", "micro.yaml")


def test_another_workflow_uses_it_as_a_module_with_a_prefix(call, tmp_path):
    write_given(tmp_path / "given")
    (tmp_path / "micro.yaml").write_text(yaml.safe_dump(STUDY))
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    planned = call("-m", "snakemake", "--cores", "2", "--dry-run")
    assert {"one_mine", "two_mine", "two_train", "two_report"} <= set(planned.split())
    assert "one_train" not in planned.split()
    made = "first/results/micro/mined/topics/pairs.jsonl"
    call("-m", "snakemake", "--cores", "2", made)
    assert (tmp_path / made).read_text().count("\n") > 0
    assert (tmp_path / "first/results/micro/.work").is_dir()
    assert not (tmp_path / "results").exists()
    assert "Nothing to be done" in call("-m", "snakemake", "--cores", "2", made)
