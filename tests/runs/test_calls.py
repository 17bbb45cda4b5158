"""What a plan says of calls to a chat endpoint before any is made."""

import json
from types import SimpleNamespace

from realign.runs.calls import call_lines
from realign.study.load import parse_study

STUDY = {
    "study": {"name": "toy"},
    "backbones": {"base": {"pretrain": {}}},
    "data": {"datasets": {"a": {"file": "a.jsonl"}, "b": {"file": "b.jsonl"}}},
}


def lines(**mining):
    judge = {"chat": {"url": "http://localhost:1/v1", "model": "judge"}}
    study = parse_study(STUDY | {"mining": {"lexical": {}, "judge": judge} | mining})
    planned = [
        SimpleNamespace(rule=rule, wildcards={"dataset": name})
        for rule in ("audit", "relabel")
        for name in getattr(study.mining, rule).datasets
    ]
    return call_lines(study, planned)


def test_calls_are_counted_from_the_pairs_that_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"query": ["", "q" * 40], "pos": ["p" * 100], "neg": ["n" * 100] * 2}
    for path, neg, count in (("mined/a/pairs.jsonl", row["neg"], 50), ("text/pairs/b.jsonl", [], 40)):
        whole = tmp_path / "results" / "toy" / path
        whole.parent.mkdir(parents=True)
        whole.write_text((json.dumps(row | {"neg": neg}) + "\n") * count)
    head, *found = lines(audit={"datasets": ["a"]}, relabel={"datasets": ["a", "b"], "share": 0.5})
    assert head.startswith("Calls to judge at http://localhost:1/v1 (about: ")
    assert [line.split(" calls")[0].strip() for line in found] == [
        "audit a: 100", "relabel a: 50", "relabel b: 60", "all: 210",
    ]  # fmt: skip
    assert "about 18,200 tokens" in found[0]  # 100 times: 120 of the prompt, and 248 characters


def test_what_is_not_there_yet_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lines(audit={"datasets": ["b"]})[1] == "  audit b: known once its pairs are there"


def test_no_line_without_an_endpoint():
    assert lines() == []
    assert lines(judge={"rules": {}}, audit={"datasets": ["a"]}) == []
