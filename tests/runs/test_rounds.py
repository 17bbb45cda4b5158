"""Which report of a round is asked for."""

import json

import pytest

from realign.artifacts.manifest import provenance_path
from realign.runs.rounds import next_report

ASKED = {"settings": {"tasks": ["a", "b"]}, "code": "now"}


@pytest.fixture
def told(tmp_path):
    """Writes a report as it was made from settings and code, and says which one is asked for next."""

    def write(number, report, **made):
        path = tmp_path / f"{number}.json"
        path.write_text(report if isinstance(report, str) else json.dumps(report))
        provenance_path(path).write_text(json.dumps(ASKED | made))
        return next_report(tmp_path, json.dumps(ASKED)).removeprefix(f"{tmp_path}/")

    return write


def test_the_first_is_asked_for_where_there_is_none(tmp_path):
    assert next_report(tmp_path / "warm", json.dumps(ASKED)) == str(tmp_path / "warm" / "1.json")


def test_failures_are_tried_again_until_there_are_none(told):
    assert told(1, {"a": "done", "b": "failed: no luck"}) == "2.json"
    assert told(2, {"a": "done", "b": "failed: no luck"}) == "3.json"
    assert told(3, {"a": "done", "b": "done"}) == "3.json"


@pytest.mark.parametrize("made", [{"code": "before"}, {"settings": {"tasks": ["a"]}}])
def test_a_failure_of_what_was_asked_before_is_made_anew_under_its_own_number(told, made):
    """So that Snakemake and the guard see what changed since, and what it costs."""
    assert told(1, {"a": "failed: a bug"}, **made) == "1.json"


@pytest.mark.parametrize("strange", ["half a rep", "[1]", "3"])
def test_what_is_no_report_tells_of_no_failure(told, strange):
    assert told(1, strange) == "1.json"
