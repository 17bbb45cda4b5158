"""What a study's evaluation amounts to: every model × task, prompts, parts, habits."""

import json
from types import SimpleNamespace

import pytest

from realign.evaluation.warm import single_tasks
from realign.names import model_columns
from realign.plan.evaluations import EvaluationPlan, parse_prompts, planned_tasks
from realign.study.benchmarks import benchmarks, tasks
from realign.study.errors import StudyError
from realign.study.evaluation import EvaluateTask, EvaluateWarm, Evaluation, Quirks

PAPER = ("MTEB(Multilingual, v2)", "MTEB(Code, v1)", "BRIGHT")


def study_of(evaluation, backbones=("a", "b")):
    """As much of a study as an evaluation's plan looks at."""
    pairs = (SimpleNamespace(left="a", right="b", embed=True),)
    return SimpleNamespace(
        study=SimpleNamespace(name="s", seeds=(0, 1)),
        backbones=dict.fromkeys(backbones),
        pairs=pairs,
        recipes={"full": SimpleNamespace(checkpoints=(10,), seeds=(), backbones=())},
        evaluation=evaluation,
    )


def test_the_named_benchmarks_have_their_published_sizes():
    sizes = {name: len(benchmarks()[name]) for name in (*PAPER, "MTEB(eng, v2)", "RTEB")}
    assert sizes == {
        "MTEB(Multilingual, v2)": 131,
        "MTEB(Code, v1)": 12,
        "BRIGHT": 12,
        "MTEB(eng, v2)": 41,
        "RTEB": 30,
    }
    assert all(tasks()[task]["splits"] == ["standard"] for task in benchmarks()["BRIGHT"])
    assert all(tasks()[task]["metric"] == "ndcg_at_10" for task in benchmarks()["BRIGHT"])


def test_every_model_meets_every_task():
    plan = EvaluationPlan(study_of(Evaluation(benchmarks=PAPER, backbones=True, checkpoints=True)), "R")
    assert plan.models == [
        "a+full+s0", "a+full+s1", "b+full+s0", "b+full+s1", "a+full+s0+step10", "b+full+s0+step10", "a", "b",
    ]  # fmt: skip
    assert len(plan.tasks) == 131 + 12 + 12 - 1  # StackOverflowQA counts for two benchmarks
    assert len(plan.scores("a+full+s0")) == 154
    assert plan.model_path("a+full+s0+step10") == "R/embedders/a+full+s0+step10/model"
    assert plan.model_path("a") == "R/backbones/a/model"
    settings = plan.settings("a+full+s0", "BrightAopsRetrieval")
    assert settings.revision == tasks()["BrightAopsRetrieval"]["revision"]
    assert plan.data("STS12") == ["R/datasets/STS12.json"]


def test_without_tasks_nothing_is_evaluated():
    assert EvaluationPlan(study_of(Evaluation(backbones=True)), "R").models == []


def test_a_warm_job_does_exactly_the_single_jobs_work():
    asked = Evaluation(benchmarks=("MTEB(eng, v2)",), prompts={"STS12": "Same meaning?"}, max_length=77)
    plan = EvaluationPlan(study_of(asked), "R")
    passed = EvaluateWarm.model_validate(json.loads(json.dumps(plan.warm_settings("m").as_slice())))
    assert 0 < len(plan.warm) < len(plan.tasks)
    assert [job.as_slice() for job in single_tasks(passed)] == [
        plan.settings("m", t).as_slice() for t in plan.warm
    ]
    assert (
        len(
            json.dumps(
                EvaluationPlan(study_of(Evaluation(benchmarks=PAPER)), "R").warm_settings("m").as_slice()
            )
        )
        < 100_000
    )


def test_a_task_of_two_benchmarks_is_one_job_for_what_both_need():
    asked = Evaluation(benchmarks=("MTEB(eng, v2)", "MTEB(Multilingual, v2)"))
    planned = planned_tasks(asked)["AmazonCounterfactualClassification"]
    assert set(planned.parts) == {"MTEB(eng, v2)", "MTEB(Multilingual, v2)"}
    assert planned.source.subsets == ()  # the multilingual benchmark takes them all
    assert planned.parts["MTEB(eng, v2)"].subsets == ("en",)


def test_prompts_come_from_the_study_over_its_file(tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"default": "Any", "STS12": "Old", "ArguAna": {"query": "q", "passage": "p"}}))
    asked = Evaluation(
        mteb_tasks=("STS12", "ArguAna", "SCIDOCS"), prompts_file=str(file), prompts={"STS12": "New"}
    )
    planned = planned_tasks(asked)
    assert planned["STS12"].source.instruction.query == "New"
    assert planned["SCIDOCS"].source.instruction.query == "Any"
    assert planned["ArguAna"].source.instruction.model_dump() == {"query": "q", "passage": "p"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"STS21": "x"}, r"no task 'STS21' \(did you mean 'STS"),
        ({"STS12": {"query": "x", "document": "y"}}, "'query' and 'passage'"),
        ({"STS12": 3}, "words"),
        ([], "JSON object"),
    ],
)
def test_a_file_of_prompts_with_a_mistake_says_which(tmp_path, content, words):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=words):
        parse_prompts(file, ())


def test_names_that_mteb_does_not_know_are_told_with_the_nearest():
    asked = Evaluation(
        benchmarks=("MTEB(Code, v2)",), mteb_tasks=("STS121",), quirks=Quirks(one_bright_instruction="sports")
    )
    told = "\n".join(asked.problems_in(None))
    assert "did you mean 'MTEB(Code, v1)'" in told
    assert "did you mean 'STS12" in told
    assert "BRIGHT has no domain 'sports'" in told


def test_one_instruction_for_all_of_bright_stands_beside_the_domains_own():
    asked = Evaluation(benchmarks=("BRIGHT",), quirks=Quirks(one_bright_instruction="theoremqa_questions"))
    planned = planned_tasks(asked)
    assert len(planned) == 24
    again = planned["BrightPonyRetrieval--one-instruction"].source
    assert (again.task, again.preset) == ("BrightPonyRetrieval", "one_bright_instruction")
    assert again.instruction_of == "BrightTheoremQAQuestionsRetrieval"
    collected = EvaluationPlan(study_of(asked), "R").collect_settings("a")
    assert collected.presets == ("one_bright_instruction",)
    assert len(collected.benchmarks["BRIGHT"]) == 12


def test_the_one_instruction_is_the_one_that_the_study_gives_that_domain():
    prompts = {"BrightAopsRetrieval": "Mine", "BrightPonyRetrieval": "Theirs"}
    asked = Evaluation(benchmarks=("BRIGHT",), prompts=prompts, quirks=Quirks(one_bright_instruction="aops"))
    planned = planned_tasks(asked)
    again = [p.source.instruction for name, p in planned.items() if name.endswith("--one-instruction")]
    assert {i.query for i in again} == {"Mine"}
    assert planned["BrightPonyRetrieval"].source.instruction.query == "Theirs"


def test_instructions_that_would_go_before_no_text_are_told():
    asked = Evaluation(
        mteb_tasks=("STS12",),
        instructions="none",
        prompts={"STS12": "x"},
        quirks=Quirks(one_bright_instruction="aops"),
    )
    told = "\n".join(asked.problems_in(None))
    assert "evaluation.prompts: goes before no text" in told
    assert "BRIGHT is not among evaluation.benchmarks" in told
    assert not list(Evaluation(mteb_tasks=("STS12",), prompts={"STS12": "x"}).problems_in(None))


def test_a_template_must_hold_its_instruction_once():
    with pytest.raises(ValueError, match="instruction"):
        Evaluation(template="Find: {task}")


def test_what_a_task_of_ones_own_needs_is_checked(tmp_path):
    with pytest.raises(ValueError, match="give exactly one of embedded, dataset and path"):
        Evaluation(tasks={"x": {"type": "sts"}})
    with pytest.raises(ValueError, match="no option"):
        Evaluation(tasks={"x": {"type": "sts", "path": ".", "options": {"n_experiments": 3}}})
    asked = Evaluation(tasks={"x": {"type": "sts", "path": str(tmp_path)}})
    with pytest.raises(StudyError, match="holds no file 'test'"):
        EvaluationPlan(study_of(asked), "R").data("x")


def test_names_of_models_read_back():
    assert model_columns("a+full+s3+step20")["step"] == 20
    assert model_columns("a")["seed"] is None
    assert EvaluateTask(task="x").instructions == "model"


@pytest.mark.slow
def test_the_lists_are_those_of_the_installed_mteb():
    from realign.evaluation.catalogue import catalogue, dump
    from realign.study.benchmarks import FILE

    assert dump(catalogue()) == FILE.read_text(encoding="utf-8"), "run python -m realign.evaluation.catalogue"
