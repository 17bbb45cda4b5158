"""Hours are spent on a pair only after it was checked."""

from pathlib import Path

import pytest
import yaml

from realign.runs.dag import planned_jobs

ROOT = Path(__file__).resolve().parents[2]
BACKBONES = {"base": {"hub": "org/base"}, "a": {"hub": "org/a"}, "b": {"hub": "org/b"}}
MADE = {"base": {"hub": "org/base"}, "a": {"rlvr": {"from": "base"}}}


def pairs(*names):
    return [{"left": "base", "right": name, "kind": "rlvr"} for name in names]


@pytest.mark.parametrize(
    ("backbones", "listed", "model", "checked"),
    [
        (BACKBONES, ["a", "b"], "a", {"a"}),
        (BACKBONES, ["a", "b"], "base", set()),
        (BACKBONES, ["a"], "base", {"a"}),
        (MADE, ["a"], "a", {"a"}),
        (MADE, ["a"], "base", set()),
    ],
)
@pytest.mark.parametrize("target", ["states/{}/docs+bidirectional.h5", "embedders/{}+full+s0/model"])
def test_extractions_and_trainings_wait_for_checks(
    tmp_path, monkeypatch, backbones, listed, model, checked, target
):
    monkeypatch.chdir(tmp_path)
    content = {
        "study": {"name": "own"},
        "backbones": backbones,
        "pairs": pairs(*listed),
        "data": {"datasets": {"docs": {"embedded": "summary-description"}}},
        "mining": {"lexical": {}},
        "recipes": {"full": {}},
    }
    study = tmp_path / "own.yaml"
    study.write_text(yaml.safe_dump(content))
    target = f"results/own/{target.format(model)}"
    jobs = planned_jobs(ROOT / "Snakefile", tmp_path, study, targets=[target])
    names = {job.name for job in jobs if job.rule == "check_pair"}
    assert names == {f"check_pair(left=base, right={name})" for name in checked}
