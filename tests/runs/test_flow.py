"""Choosing and freezing a study for a run."""

import json

import pytest
import yaml

from realign.artifacts.command import UserError
from realign.runs import frozen
from realign.runs.flow import EMBEDDER, Flow, accepted_cost, changes_of, choose_study, open_study
from realign.study.errors import StudyError
from realign.study.names import EmbedderId

STUDY = {"study": {"name": "mine"}, "backbones": {}}


@pytest.fixture(autouse=True)
def no_run(monkeypatch):
    monkeypatch.delenv(frozen.VARIABLE, raising=False)


def write(path, **changes):
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return path


def test_a_given_study_replaces_the_default_one(tmp_path):
    default = write(tmp_path / "config.yaml", study={"name": "tiny", "seeds": [5, 6]})
    given = write(tmp_path / "mine.yaml")
    study = open_study(default, [given], {})
    assert study.study.name == "mine"
    assert study.study.seeds == (0,)  # nothing of the default study shines through


def test_two_studies_are_refused(tmp_path):
    with pytest.raises(StudyError, match="never merged"):
        choose_study(tmp_path / "config.yaml", ["a.yaml", "b.yaml"])


def test_config_lays_changes_over_the_study(tmp_path):
    path = write(tmp_path / "mine.yaml")
    study = open_study(path, [], {"study": {"seeds": ["3", "4"]}})
    assert study.study.seeds == (3, 4)
    assert study.study.name == "mine"
    # Snakemake leaves what lies within a section as text
    assert changes_of({"a": {"b": "null", "c": ["1", "x"]}, "d": 2}) == {
        "a": {"b": None, "c": [1, "x"]},
        "d": 2,
    }


def test_what_a_run_may_cost_is_no_part_of_the_study(tmp_path):
    path = write(tmp_path / "mine.yaml")
    assert open_study(path, [], {"accept_cost": 40}) == open_study(path, [], {})
    assert accepted_cost({"accept_cost": 40}) == 40
    assert accepted_cost({}) == 0
    with pytest.raises(StudyError, match=r"accept_cost: GPU-hours are a number, 0 or more \(got 'much'\)"):
        accepted_cost({"accept_cost": "much"})


def test_a_running_job_keeps_the_study_its_run_began_with(tmp_path, monkeypatch):
    path = write(tmp_path / "mine.yaml")
    study = open_study(path, [], {})
    record = frozen.name_run(tmp_path / ".runs")
    assert not record.exists()  # naming a run writes nothing
    frozen.freeze(record, study.model_dump(mode="json"))
    write(tmp_path / "mine.yaml", study={"name": "mine", "seeds": [8]})
    assert open_study(path, [], {}).study.seeds == (0,)
    monkeypatch.delenv(frozen.VARIABLE)
    assert open_study(path, [], {}).study.seeds == (8,)


class Stage:
    name, run, code = "toy", "realign.seeds:derive_seed", "new"


def test_a_job_whose_code_changed_stops_and_names_the_module(tmp_path):
    record = frozen.name_run(tmp_path / ".runs")
    record.parent.mkdir()
    content = {"code": {"toy": "old"}, "modules": {"toy": {"realign.seeds": "other"}}, "study": STUDY}
    record.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"code changed after this run was planned \(.*realign\.seeds"):
        frozen.check_frozen(Stage, None)
    record.write_text(json.dumps(content | {"code": {"toy": "new"}}))
    frozen.check_frozen(Stage, "old")  # the record of the run decides


def test_outside_a_run_the_rules_own_word_decides():
    frozen.check_frozen(Stage, None)
    frozen.check_frozen(Stage, "new")
    with pytest.raises(UserError, match="start the workflow again"):
        frozen.check_frozen(Stage, "old")


def test_a_rules_parameter_is_canonical(tmp_path, monkeypatch):
    import realign.runs.flow as module

    flow = Flow(open_study(write(tmp_path / "mine.yaml"), [], {}))
    monkeypatch.setattr(module, "load_command", lambda name: Stage)
    text = flow.job("toy", flow.study.study)
    assert json.loads(text) == {
        "code": "new",
        "settings": flow.study.study.as_slice(),
        "store": "results/mine/.work",
    }
    assert text == flow.job("toy", flow.study.study)


@pytest.mark.parametrize("name", ["base+full+s0", "Qwen2.5-0.5B+lora_r16+s12+step200"])
def test_embedder_names_read_back(name):
    import re

    assert str(EmbedderId.parse(name)) == name
    assert re.fullmatch(EMBEDDER, name)


@pytest.mark.parametrize("name", ["base", "base+full", "base+full+0", "a+b+s1+step", "a+b+c+s1"])
def test_other_names_are_no_embedders(name):
    with pytest.raises(ValueError, match="names no embedder"):
        EmbedderId.parse(name)
