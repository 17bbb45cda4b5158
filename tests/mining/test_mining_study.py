"""The section of a study: what it refuses, what it hands to a job, and the paper's own settings."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from realign.mining.tally import REFUSED
from realign.study.errors import StudyError
from realign.study.load import parse_study
from realign.study.mining import MineJob, Mining

STUDY = {
    "study": {"name": "toy", "seed": 5},
    "backbones": {"base": {"pretrain": {}}},
    "data": {"datasets": {"a": {"file": "a.jsonl"}, "b": {"file": "b.jsonl", "mined": False}}},
}


def study(**mining):
    return parse_study({**STUDY, "mining": mining})


def documented() -> dict:
    """The paper's mining as the manual spells it."""
    text = (Path(__file__).parents[2] / "docs" / "mining.md").read_text(encoding="utf-8")
    block = text.split("## The paper's mining")[1].split("```yaml")[1].split("```")[0]
    return yaml.safe_load(block)


def test_the_manual_holds_the_papers_mining():
    written = documented()
    made = parse_study({**STUDY, **written, "backbones": STUDY["backbones"] | written["backbones"]})
    job = made.mining.of(made.study, "a")
    assert (job.negatives, job.choose, job.relative_margin) == (3, "top", 0.05)
    assert (job.range_min, job.range_max, job.range_max_share) == (0, 100, 0.1)
    assert (job.passages, job.instructions, job.equality) == ("positives", False, "exact")
    assert (job.absolute_margin, job.max_score, job.min_score, job.lexical) == (None,) * 4
    assert job.too_few == "existing"
    assert made.mining.margin_filter.datasets == ()
    assert written["backbones"]["qwen3-embedding-0.6b"]["hub"] == "Qwen/Qwen3-Embedding-0.6B"


def test_the_manual_lists_every_reason_in_the_order_of_the_checks():
    text = (Path(__file__).parents[2] / "docs" / "mining.md").read_text(encoding="utf-8")
    table = text.split("| reason |")[1].split("\n\n")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.strip().startswith("| `")]
    assert [name for cell in first for name in cell.replace("`", "").replace(",", "").split()] == REFUSED


def test_the_papers_study_mines_as_the_manual_says():
    paper = yaml.safe_load((Path(__file__).parents[2] / "studies/paper.yaml").read_text(encoding="utf-8"))
    written = documented()
    teacher = paper["mining"].pop("teacher")["backbone"]
    assert paper["backbones"][teacher]["hub"] == "Qwen/Qwen3-Embedding-0.6B"
    assert paper["mining"] == {k: v for k, v in written["mining"].items() if k != "teacher"}
    mined = [name for name, given in paper["data"]["datasets"].items() if given.get("mined", True)]
    assert len(mined) == 11


def test_a_job_gets_its_slice_and_nothing_else():
    made = study(lexical={}, negatives=2, token_budget=99, margin_filter={"datasets": ["a"]})
    job = made.mining.of(made.study, "a")
    assert (job.study, job.dataset, job.seed, job.negatives) == ("toy", "a", 5, 2)
    assert not {"teacher", "margin_filter", "token_budget"} & set(job.as_slice())
    assert MineJob.model_validate(job.as_slice()) == job
    filtering = made.mining.margin_job(made.study).as_slice()
    assert not {"datasets", "teacher", "token_budget"} & set(filtering["margin"])


@pytest.mark.parametrize(
    ("mining", "message"),
    [
        ({}, r"mining: no teacher; datasets are mined \(a\)"),
        ({"lexical": {}, "teacher": {"backbone": "base"}}, "more than one teacher"),
        ({"teacher": {"backbone": "bose"}}, r"no backbone 'bose' \(did you mean 'base'\?\)"),
        ({"lexical": {}, "corpus": "x.jsonl"}, "`corpus` and `passages: corpus`"),
        ({"lexical": {}, "margin_filter": {"datasets": ["b"]}}, "no mined dataset 'b'"),
        ({"lexical": {}, "range_max": 2}, "holds fewer than 3 candidates"),
        ({"lexical": {}, "relax": ["min_score", "min_score"]}, "lists a filter twice"),
        ({"lexical": {}, "relative_margn": 0.1}, r"did you mean 'relative_margin'\?"),
        ({"teacher": {"backbone": "base", "path": "x"}}, "give one of backbone and path"),
    ],
)
def test_what_does_not_fit_is_named(mining, message):
    with pytest.raises(StudyError, match=message):
        study(**mining)


def test_defaults_are_sound():
    assert Mining().range_max == 100
    with pytest.raises(ValidationError):
        Mining(negatives=0)
