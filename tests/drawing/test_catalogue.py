"""Each plate is declared beside the code that draws it, and nowhere else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import realign.plates.catalogue as catalogue
from realign.artifacts.fingerprint import fingerprint
from realign.drawing.commands import PLATE_COMMANDS
from realign.report.commands import REPORT
from realign.study.errors import StudyError
from realign.study.load import parse_study

SRC = Path(catalogue.__file__).parents[1]
NEW = '''"""A table of one row."""

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Plate

PLATES = (Plate("table_mine", "A table of mine", "Its caption.", category="The question"),)


def make(asked, tidy, references):
    return Table([Column("answer", "Answer")], [{"answer": "forty-two"}])


run = publishing(make, PLATES)
'''


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package's code, to be changed."""
    return Path(shutil.copytree(SRC, tmp_path / "src/realign", ignore=shutil.ignore_patterns("__pycache__")))


def test_a_captions_edit_redraws_the_modules_plates_alone(copied):
    place = copied / "drawing/figures/heatmaps.py"
    place.write_text(place.read_text().replace("Mean correlation of equal dimensions", "Mean correlation"))
    runs = {
        name: command.run.split(":")[0] for name, command in (PLATE_COMMANDS | {"report": REPORT}).items()
    }
    redrawn = {name for name, module in runs.items() if fingerprint(module) != fingerprint(module, copied)}
    assert redrawn == {"figure_6", "figure_7", "figure_8", "figure_9"}


def test_a_new_plate_is_one_file(copied, results, tmp_path):
    (copied / "drawing/tables/mine.py").write_text(NEW)

    def realign(*words):
        return subprocess.run(
            [sys.executable, "-m", "realign.cli", *words],
            env=os.environ | {"PYTHONPATH": str(copied.parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "table_mine A table of mine." in " ".join(realign("figures", "--list").split())
    realign("figures", "--results", str(results), "--out", str(tmp_path), "--only", "table_mine", "report")
    assert "forty-two" in (tmp_path / "tables/table_mine.md").read_text()
    assert '<h3 id="table_mine">A table of mine.</h3>' in (tmp_path / "report.html").read_text()


def test_an_unknown_plate_in_a_study_is_an_error_with_the_nearest():
    with pytest.raises(StudyError, match=r"figures\.plates\.figure_55: no figure or table .*figure_5"):
        parse_study({"study": {"name": "x"}, "figures": {"plates": {"figure_55": {"margin": 2}}}})


def test_the_help_lists_no_plate_and_names_the_list_that_does(capsys):
    from realign.cli import main

    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "figure_" not in text
    assert "realign figures --list" in text
    assert text.index("  plan ") < text.index("Stages, which a run calls for you") < text.index("  mine ")
