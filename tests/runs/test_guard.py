"""The guard on reruns for code alone: what counts, what does not, and what a run says."""

import pytest

from realign.runs import guard as module
from realign.runs.causes import redone_for_code
from realign.runs.cost import Cost
from realign.runs.dag import FOLLOWS, PlannedJob
from realign.study.load import parse_study

PARAMS = "params have changed since last execution"
MISSING = "output files have to be generated"


def job(rule, *reasons, after=(), settings=(1, 1), code=("old", "old")):
    sides = [{"settings": s, "code": c} for s, c in zip(settings, code, strict=True)]
    return PlannedJob(rule, reasons=reasons, before=sides[0], now=sides[1], after=after, resources={"gpu": 2})


EDITED = ("old", "new")


def test_only_what_nothing_but_code_made_stale_counts():
    jobs = [
        job("train", PARAMS, code=EDITED),
        job("evaluate", FOLLOWS, after=("train",)),
        job("mine", PARAMS, settings=(1, 2), code=EDITED),
        job("pretrain", MISSING, code=EDITED),
        PlannedJob("figure", reasons=(MISSING, FOLLOWS), after=("train",)),  # never made before
        job("extract", FOLLOWS, after=("train", "mine")),
    ]
    assert redone_for_code(jobs) == {"train": ("the code of train",), "evaluate": ("the code of train",)}


@pytest.fixture
def planned(monkeypatch):
    jobs = [job("train", PARAMS, code=EDITED), job("extract", FOLLOWS, after=("train",), code=EDITED)]
    modules = {"train": ("realign.training.loss",), "extract": ("realign.states.capture",)}
    monkeypatch.setattr("realign.runs.causes.changed_modules", lambda job: modules[job.rule])
    costs = {"train": Cost(10, 20, "measured"), "extract": Cost(1, 2, "study")}
    monkeypatch.setattr(module, "costs_of", lambda jobs, study: costs)
    return jobs, costs


STUDY = parse_study({"study": {"name": "mine"}, "backbones": {}})


def test_the_modules_are_named_with_what_they_cost(planned):
    first, second = module.redone(*planned)
    assert (first.modules, first.gpu_hours) == (("realign.training.loss",), 20)
    assert second.modules == ("realign.states.capture", "realign.training.loss")
    assert second.rules == (("extract", 1),)


def test_a_run_stops_until_the_cost_is_accepted(planned):
    from snakemake.exceptions import WorkflowError

    with pytest.raises(WorkflowError) as stopped:
        module.guard(planned[0], STUDY, {})
    said = str(stopped.value)
    assert "Because of code alone 22 GPU-h would be redone" in said
    assert "realign.training.loss: train 1" in said
    assert "accept_cost=23" in said
    assert "realign touch --stage extract train" in said
    with pytest.raises(WorkflowError):
        module.guard(planned[0], STUDY, {"accept_cost": 21})
    module.guard(planned[0], STUDY, {"accept_cost": 23})


def test_cheap_or_kept_work_is_redone_without_asking(planned):
    _, costs = planned
    costs["train"] = Cost(0, 0, "kept")
    module.guard(planned[0], STUDY, {})
    costs["train"] = Cost(1, 9, "measured")
    generous = parse_study({"study": {"name": "mine"}, "backbones": {}, "resources": {"redo_gpu_hours": 12}})
    module.guard(planned[0], generous, {})


def test_hours_of_processors_count_too(planned):
    from snakemake.exceptions import WorkflowError

    _, costs = planned
    costs["train"], costs["extract"] = Cost(0.1, 0, "measured", 0.2), Cost(0.01, 0, "measured", 0.01)
    module.guard(planned[0], STUDY, {})
    said = module.describe(module.redone(*planned))
    assert said.splitlines()[0] == "Because of code alone 0.21 CPU-h would be redone:"
    assert said.splitlines()[-1] == "  1 jobs that cost next to nothing"
    costs["train"] = Cost(50, 0, "measured", 100)
    with pytest.raises(WorkflowError, match="accept_cost=101"):
        module.guard(planned[0], STUDY, {})
    module.guard(planned[0], STUDY, {"accept_cost": 101})
