"""The starter study: it loads, it names every setting, and it leaves nothing behind when it fails."""

import filecmp
import re
from pathlib import Path

import pytest
import yaml

from realign.artifacts.command import UserError
from realign.study.errors import StudyError
from realign.study.load import load_study
from realign.study.starter import starter
from realign.study.study import Study
from realign.tools.init import demo, main


@pytest.mark.parametrize("name", ["mine", "123", "no", "2024-01-01"])
def test_whatever_its_name_the_starter_loads(tmp_path, name, capsys):
    file = tmp_path / f"{name}.yaml"
    assert main([str(file)]) == 0
    assert load_study(file).study.name == name
    assert "realign plan" in capsys.readouterr().out


def test_it_is_short_names_every_section_and_pins_its_models():
    text = starter("mine.yaml", "mine")
    assert len(text.splitlines()) < 70
    assert all(re.search(rf"^(#  )? ?{section}\b", text, re.M) for section in Study.model_fields)
    backbones = yaml.safe_load(text)["backbones"].values()
    assert all(re.fullmatch("[0-9a-f]{40}", backbone["revision"]) for backbone in backbones)


def test_its_training_loads_when_the_marks_before_it_are_taken_away(tmp_path):
    lines = starter("mine.yaml", "mine").splitlines()
    start = lines.index("# data:")
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("# "))
    lines[start:end] = [line.removeprefix("# ") for line in lines[start:end]]
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join(lines))
    study = load_study(file)
    assert study.data.datasets["questions"].file == "questions.jsonl"
    assert study.recipes["full"].batches.steps == 500
    assert study.evaluation.mteb_tasks == ("STS12", "SciFact")


def test_a_file_that_is_there_is_left_alone(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("precious")
    with pytest.raises(StudyError, match="exists already"):
        main([str(file)])
    assert file.read_text() == "precious"


def test_an_unsafe_name_is_refused(tmp_path):
    with pytest.raises(StudyError, match="no usable name"):
        main([str(tmp_path / "a b.yaml")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("like", ["tiny", "laptop", "laptop-smoke", "paper-small", "paper"])
def test_a_study_that_comes_with_realign_is_copied_under_its_new_name(tmp_path, like):
    assert main([str(tmp_path / "mine.yaml"), "--like", like]) == 0
    assert load_study(tmp_path / "mine.yaml").study.name == "mine"


def test_a_profile_for_slurm_is_written_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["mine.yaml", "--slurm"]) == 0
    shipped = Path(__file__).parents[2] / "workflow/profiles/slurm/config.yaml"
    assert filecmp.cmp("profiles/slurm/config.yaml", shipped, shallow=False)
    assert "--workflow-profile slurm" in capsys.readouterr().out
    with pytest.raises(StudyError, match="exists already"):
        main(["other.yaml", "--slurm"])
    assert not Path("other.yaml").exists()


def test_the_demo_leaves_another_study_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("study: {name: precious}\n")
    with pytest.raises(UserError, match="run the demo in an empty folder"):
        demo([])
    assert Path("config.yaml").read_text() == "study: {name: precious}\n"


def test_the_demo_brings_its_study_along(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert demo(["--dry-run", "--quiet", "all"]) == 0
    assert load_study(Path("config.yaml")).study.name == "tiny"
    assert "pretrain" in capfd.readouterr().out
