"""What needs a network runs beside Snakemake: compute nodes often have none."""

import re
from pathlib import Path

import pytest
import yaml

from realign.runs import dag

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "workflow" / "rules"
STUDY = {
    "study": {"name": "own"},
    "backbones": {"base": {"hub": "org/base"}, "noise": {"untrained": {"like": "base"}}},
    "pairs": [{"left": "base", "right": "noise", "kind": "control"}],
    "data": {"datasets": {"docs": {"embedded": "summary-description"}}},
}


def test_everything_that_fetches_is_a_local_rule():
    text = "\n".join(path.read_text() for path in sorted(RULES.glob("*.smk")))
    fetching = set(re.findall(r"^rule (fetch_\w+):", text, re.MULTILINE))
    local = {
        name for block in re.findall(r"^localrules:\n((?:    \w+,\n)+)", text, re.MULTILINE)
        for name in re.findall(r"\w+", block)
    }  # fmt: skip
    assert fetching >= {"fetch_hub", "fetch_pypi", "fetch_dataset", "fetch_task"}
    assert fetching <= local


@pytest.mark.parametrize(
    ("judge", "local"), [({"chat": {"url": "http://x/v1", "model": "m"}}, True), ({"rules": {}}, False)]
)
def test_a_judge_behind_an_endpoint_is_asked_from_where_snakemake_runs(tmp_path, monkeypatch, judge, local):
    mining = {"lexical": {}, "judge": judge, "relabel": {"datasets": ["docs"]}}
    study = tmp_path / "own.yaml"
    study.write_text(yaml.safe_dump(STUDY | {"mining": mining | {"audit": {"datasets": ["docs"]}}}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dag, "jobs_of", lambda planned: planned.workflow._localrules)
    assert ({"audit", "relabel"} <= dag.planned_jobs(ROOT / "Snakefile", tmp_path, study)) is local
