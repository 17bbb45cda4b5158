"""Settings of states and traces: what reaches a job's slice, and what a study refuses."""

import pytest
from pydantic import ValidationError

from realign.study.errors import StudyError
from realign.study.load import parse_study
from realign.study.states import States
from realign.study.traces import Traces


def study(**sections):
    probes = {"docs": {"embedded": "docs"}}
    return parse_study({"study": {"name": "t"}, "backbones": {}, "text": {"probes": probes}, **sections})


def test_a_corpus_may_differ_from_the_rest():
    states = States.model_validate(
        {
            "tokens": {"count": 50, "skip_first": 2},
            "corpora": {"docs": {"tokens": {"count": 0}, "max_tokens": 9}},
        }
    )
    own, other = (states.extract("m", corpus, "causal", 3) for corpus in ("docs", "more"))
    assert (own.tokens.count, own.max_tokens) == (0, 9)
    assert (other.tokens.count, other.tokens.skip_first, other.max_tokens) == (50, 2, 131_072)
    assert (other.model_name, other.attention, other.seed) == ("m", "causal", 3)


def test_hardware_makes_nothing_stale():
    slices = [
        States.model_validate({"hardware": {"processes": p, "token_budget": b}}).extract(
            "m", "c", "causal", 0
        )
        for p, b in ((1, 100), (4, 9000))
    ]
    assert slices[0].as_slice() == slices[1].as_slice()
    kept = States.model_validate({"storage": "bfloat16"}).extract("m", "c", "causal", 0)
    assert kept.as_slice() != slices[0].as_slice()


def test_what_a_study_refuses():
    with pytest.raises(StudyError, match=r"no probe corpus 'dcos' \(did you mean 'docs'"):
        study(states={"corpora": {"dcos": {}}})
    with pytest.raises(StudyError, match="give an endpoint or a backbone"):
        study(traces={"sets": {"sums": {"file": "sums.jsonl"}}})
    with pytest.raises(StudyError, match="no backbone 'base'"):
        study(traces={"generator": {"backbone": "base"}})


def test_a_generator_is_one_thing():
    endpoint = {"url": "https://example.org/v1", "model": "m"}
    with pytest.raises(ValidationError, match="not both"):
        Traces.model_validate({"generator": {"endpoint": endpoint, "backbone": "b"}})
    with pytest.raises(ValidationError, match="url"):
        Traces.model_validate({"generator": {"endpoint": {"url": "file:///etc/passwd", "model": "m"}}})
