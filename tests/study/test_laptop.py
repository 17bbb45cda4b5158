"""The laptop study and its smoke version: the second is the first made small, nothing else."""

from pathlib import Path

import pytest

from realign.plan.targets import embedders
from realign.study.load import load_study

STUDIES = Path(__file__).resolve().parents[2] / "studies"


@pytest.fixture(scope="module")
def studies():
    return [load_study(STUDIES / f"{name}.yaml") for name in ("laptop", "laptop-smoke")]


def test_the_smoke_version_makes_the_same_things_from_the_same_sources(studies):
    whole, smoke = studies
    assert list(smoke.backbones) == list(whole.backbones)
    for name, backbone in smoke.backbones.items():
        assert (backbone.source, backbone.parents) == (
            whole.backbones[name].source,
            whole.backbones[name].parents,
        )
        assert (backbone.pypi, backbone.file) == (whole.backbones[name].pypi, whole.backbones[name].file)
    assert smoke.pairs == whole.pairs
    assert list(smoke.recipes) == list(whole.recipes)
    boolq, small = (study.data.datasets["boolq"] for study in (whole, smoke))
    assert small.model_copy(update={"limit": None}) == boolq
    assert smoke.text.probes["boolq"].pypi == whole.text.probes["boolq"].pypi == boolq.pypi
    assert smoke.evaluation.tasks["BoolQ"] == whole.evaluation.tasks["BoolQ"]


def test_the_smoke_version_is_small(studies):
    whole, smoke = studies
    assert len(embedders(smoke)) == 3 < len(embedders(whole))
    assert smoke.recipes["full"].batches.steps == 2
    assert smoke.backbones["rlvr"].rlvr.optimisation.steps == 2
    assert smoke.backbones["sft"].sft.optimisation.steps == 2


def test_answers_are_asked_for_in_training_as_in_scoring(studies):
    for study in studies:
        tuned = (study.backbones["rlvr"].rlvr, study.backbones["sft"].sft)
        assert {made.prompt for made in tuned} == {study.backbone_scores.prompt}
