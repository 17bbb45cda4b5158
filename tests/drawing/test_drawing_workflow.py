"""The rules of this room under the real workflow engine, over made-up tidy results of the embedded study."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from realign.plan.describe import describe
from realign.plan.plates import filled
from realign.plates.catalogue import FIGURES, PLATES
from realign.runs.dag import planned_jobs
from realign.study.load import load_study
from synthetic_results import fill

ROOT = Path(__file__).parents[2]
SNAKEFILE = """
include: "{rules}/common.smk"
include: "{rules}/results.smk"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the embedded study, its tidy results made up, and the rules of this room alone."""
    shutil.copy(ROOT / "config.yaml", tmp_path / "config.yaml")
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(rules=ROOT / "workflow/rules"))
    study = load_study(tmp_path / "config.yaml")
    fill(describe(study), tmp_path / "results" / study.study.name)
    (tmp_path / "results" / study.study.name / "tidy/study.json").unlink()
    return tmp_path


def snakemake(place: Path, *options: str) -> None:
    """Make the paper's target."""
    words = ["--cores", "2", "--rerun-triggers", "mtime", "input", "params", *options, "--", "paper"]
    done = subprocess.run(
        [Path(sys.executable).with_name("snakemake"), *words],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def planned(place: Path) -> set[str]:
    """The rules that would run for the paper's target, the study's description aside."""
    jobs = planned_jobs(place / "Snakefile", place, targets=["paper"])
    return {job.rule for job in jobs} & {*PLATES, "claims", "report"}


@pytest.mark.slow
@pytest.mark.long  # the demo draws all of them, too
@pytest.mark.timeout(1800)
def test_the_embedded_study_fills_every_plate_and_a_colour_redraws_figures_alone(place):
    snakemake(place)
    results = next((place / "results").iterdir())
    study = load_study(place / "config.yaml")
    made = set(filled(describe(study)))
    assert {"figure_3", "figure_behaviour", "table_1"} <= made
    for name in made:
        plate = PLATES[name]
        if plate.needs:
            folder = "tables" if plate.is_table else "figures"
            assert len((results / folder / f"{name}.csv").read_text().splitlines()) > 1, name
    assert (results / "report.html").is_file()
    assert planned(place) == set()
    study = yaml.safe_load((place / "config.yaml").read_text())
    study.setdefault("figures", {})["style"] = {"palette": {"rlvr": "#004488"}}
    (place / "config.yaml").write_text(yaml.safe_dump(study))
    assert planned(place) == {*(made & set(FIGURES)), "report"}
    snakemake(place, "--report", "report.zip")
    assert (place / "report.zip").stat().st_size > 100_000
