"""A study's own files: which setting names one that is missing, and when none is asked for."""

from pathlib import Path

import pytest
import yaml

from realign.artifacts.command import UserError
from realign.runs.dag import planned_jobs
from realign.runs.flow import own_file
from realign.study.errors import StudyError

ROOT = Path(__file__).resolve().parents[2]
STUDY = {
    "study": {"name": "own"},
    "backbones": {"base": {"hub": "org/base"}, "noise": {"untrained": {"like": "base"}}},
    "pairs": [{"left": "base", "right": "noise", "kind": "control"}],
    "data": {"datasets": {"docs": {"embedded": "summary-description"}}},
    "mining": {"lexical": {}},
    "recipes": {"full": {}},
}
SEARCH = {"corpus": "a.jsonl", "queries": "b.jsonl", "qrels": "c.tsv"}


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def planned(**sections):
        study = tmp_path / "own.yaml"
        study.write_text(yaml.safe_dump(STUDY | sections))
        return {job.name for job in planned_jobs(ROOT / "Snakefile", tmp_path, study)}

    return planned


@pytest.mark.parametrize(
    ("sections", "setting", "file"),
    [
        ({"backbones": STUDY["backbones"] | {"base": {"path": "/nope"}}}, "backbones.base.path", "/nope"),
        ({"backbones": STUDY["backbones"] | {"base": {"gguf": "a.gguf"}}}, "backbones.base.gguf", "a.gguf"),
        ({"data": {"datasets": {"docs": {"file": "a.jsonl"}}}}, "data.datasets.docs.file", "a.jsonl"),
        ({"text": {"probes": {"docs": {"file": "a.jsonl"}}}}, "text.probes.docs.file", "a.jsonl"),
        (
            {"text": {"problems": {"further": {"own": {"file": "a.jsonl"}}}}},
            "text.problems.further.own.file",
            "a.jsonl",
        ),
        ({"mining": {"teacher": {"path": "/nope"}}}, "mining.teacher.path", "/nope"),
        (
            {
                "mining": {
                    "lexical": {},
                    "judge": {"rules": {}},
                    "audit": {"datasets": ["docs"], "gold": "gold.jsonl"},
                }
            },
            "mining.audit.gold",
            "gold.jsonl",
        ),
        (
            {
                "mining": {
                    "lexical": {},
                    "judge": {"cross_encoder": {"path": "/nope"}},
                    "relabel": {"datasets": ["docs"]},
                }
            },
            "mining.judge.cross_encoder.path",
            "/nope",
        ),
        ({"recipes": {"full": {"deepspeed": "ds.json"}}}, "recipes.full.deepspeed", "ds.json"),
        (
            {"recipes": {"full": {"loss": {"guide": {}}, "guide_model": {"path": "/nope"}}}},
            "recipes.full.guide_model.path",
            "/nope",
        ),
        (
            {"evaluation": {"tasks": {"mine": {"type": "retrieval", "path": "a", "files": SEARCH}}}},
            "evaluation.tasks.mine",
            "a/a.jsonl",
        ),
        (
            {"evaluation": {"tasks": {"mine": {"type": "sts", "path": "/nope"}}}},
            "evaluation.tasks.mine",
            "/nope",
        ),
    ],
)
def test_a_missing_file_is_told_by_its_setting(jobs, sections, setting, file):
    with pytest.raises(UserError) as told:
        jobs(**sections)
    head, *problems = str(told.value).splitlines()
    assert head == f"{setting}: 1 problem"
    assert len(problems) == 1
    assert f"{file}" in problems[0]


def test_what_a_rule_makes_or_nothing_needs_is_not_asked_for(jobs, tmp_path):
    probes = {"docs": {"file": "results/own/traces/sums/traces.jsonl"}}
    traces = {"sets": {"sums": {"file": "sums.jsonl"}}, "generator": {"backbone": "base"}}
    (tmp_path / "sums.jsonl").touch()
    assert "traces(dataset=sums)" in jobs(text={"probes": probes}, traces=traces)

    unused = STUDY["backbones"] | {"unused": {"path": "/nope"}}
    assert not any(name.startswith("import_path") for name in jobs(backbones=unused))


def test_a_missing_source_is_an_error_where_its_results_are_there(jobs, tmp_path):
    model = tmp_path / "results/own/backbones/base/model"
    model.mkdir(parents=True)
    (tmp_path / "results/own/text/pairs").mkdir(parents=True)
    for made in (model.with_name("model.manifest.json"), tmp_path / "results/own/text/pairs/docs.jsonl"):
        made.touch()
    with pytest.raises(UserError, match=r"backbones\.base\.path: 1 problem\n.*/gone"):
        jobs(backbones=STUDY["backbones"] | {"base": {"path": "/gone"}})
    with pytest.raises(UserError, match=r"data\.datasets\.docs\.file: 1 problem\n.*gone\.jsonl"):
        jobs(data={"datasets": {"docs": {"file": "gone.jsonl"}}})


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"type": "sts", "embedded": "DocsSTX"}, r"mine\.embedded: .*'DocsSTX' \(did you mean 'DocsSTS'\?\)"),
        ({"type": "retrieval", "embedded": "DocsSTS"}, r"mine\.type: 'DocsSTS' is a sts task"),
    ],
)
def test_a_mistyped_embedded_task_is_an_error(jobs, task, problem):
    with pytest.raises(UserError, match=problem):
        jobs(evaluation={"tasks": {"mine": task}})


def test_more_negatives_than_are_mined_is_an_error(jobs):
    more = {"full": {"batches": {"negatives": 7}}}
    with pytest.raises(UserError, match=r"recipes\.full\.batches\.negatives: 7 .* mining\.negatives is 3"):
        jobs(recipes=more)
    assert jobs(recipes=more, mining={"lexical": {}, "negatives": 7})
    as_it_came = {"datasets": {"docs": {"embedded": "summary-description", "mined": False}}}
    assert jobs(recipes=more, data=as_it_came)


def test_mining_s_own_files_are_inputs(jobs, tmp_path):
    (tmp_path / "teacher").mkdir()
    mining = {"teacher": {"path": "teacher"}, "corpus": "texts.jsonl", "passages": "both"}
    with pytest.raises(UserError, match=r"mining\.corpus: 1 problem\n.*texts\.jsonl"):
        jobs(mining=mining)
    (tmp_path / "texts.jsonl").touch()
    filtered = {"datasets": ["docs"], "teacher": {"path": "other"}}
    with pytest.raises(UserError, match=r"mining\.margin_filter\.teacher\.path: 1 problem\n.*other"):
        jobs(mining=mining | {"margin_filter": filtered})
    assert "mine(dataset=docs)" in jobs(mining=mining)


def test_a_file_where_a_model_s_folder_is_wanted_is_refused(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(StudyError, match=r"is a file; give the folder that holds the model"):
        own_file([], "backbones.base.path", str(tmp_path / "model.safetensors"))
    assert own_file([], "backbones.base.path", str(tmp_path)) == str(tmp_path)


def test_a_guide_model_that_a_study_declares_is_fetched_for_the_trainings(jobs):
    backbones = STUDY["backbones"] | {"guide": {"hub": "org/guide"}}
    recipe = {"loss": {"guide": {"margin": 0.05}}, "guide_model": {"backbone": "guide"}}
    guided = jobs(backbones=backbones, recipes={"full": recipe})
    assert {name for name in guided - jobs(backbones=backbones) if "guide" in name}


def test_judges_are_asked_for_the_datasets_that_are_named(jobs):
    assert not {"audit(dataset=docs)", "relabel(dataset=docs)"} & jobs()
    judged = {"lexical": {}, "judge": {"rules": {}}}
    assert "audit(dataset=docs)" in jobs(mining=judged | {"audit": {"datasets": ["docs"]}})
    mended = jobs(mining=judged | {"relabel": {"datasets": ["docs"]}})
    assert {"mine(dataset=docs)", "relabel(dataset=docs)"} <= mended  # a training reads what it makes
    with pytest.raises(UserError, match="no judge for audit and relabel"):
        jobs(mining={"lexical": {}, "relabel": {"datasets": ["docs"]}})
    with pytest.raises(UserError, match=r"mining\.audit\.datasets\[0\]: no mined dataset 'dox'"):
        jobs(mining=judged | {"audit": {"datasets": ["dox"]}})
