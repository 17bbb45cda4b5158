"""The stages from Python, as the manual shows them."""

import json
import re
from pathlib import Path

import pytest

from micro_study import write_given
from realign.artifacts.command import UserError
from realign.artifacts.provenance import read_provenance
from realign.stages import run

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")


def blocks(heading):
    part = HOW_TO.split(f"## … {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", part, re.S)


@pytest.fixture
def pairs(tmp_path):
    rows = [{"query": ["", f"question {i}"], "pos": [f"answer {i}"], "neg": []} for i in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "pairs.jsonl"


def test_a_stage_runs_from_python_and_what_is_made_is_kept(pairs, tmp_path):
    files = {"raw": pairs, "pairs": tmp_path / "out/mined.jsonl"}
    asked = {"settings": {"lexical": {}}, "store": tmp_path / "store"}
    made = run("mine", **files, **asked)
    assert made == {"pairs": tmp_path / "out/mined.jsonl"}
    first = made["pairs"].read_bytes()
    assert all(json.loads(line)["neg"] for line in first.splitlines())
    told = read_provenance(made["pairs"])
    made["pairs"].unlink()
    assert run("mine", **files, **asked)["pairs"].read_bytes() == first
    assert read_provenance(made["pairs"])["seconds"] == told["seconds"]  # put in place, not made again


@pytest.mark.parametrize(
    ("stage", "files", "settings", "said"),
    [
        ("mien", {}, {}, "no stage 'mien' (did you mean 'mine'?)"),
        ("mine", {"rwa": "x", "pairs": "y"}, {}, "no file 'rwa' (did you mean 'raw'?)"),
        ("mine", {"pairs": "y"}, {}, "'raw' is missing: Pairs, JSONL"),
        ("mine", {"raw": "x", "pairs": "y"}, {"lexicl": {}}, "lexicl"),
    ],
)
def test_what_is_wrong_is_said(stage, files, settings, said, tmp_path):
    with pytest.raises(UserError) as told:
        run(stage, **files, settings=settings, store=tmp_path)
    assert said in str(told.value)


@pytest.mark.slow
def test_the_manuals_way_from_pairs_to_a_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_given(tmp_path / "models")
    for name in ("pairs.jsonl", "texts.jsonl"):
        (tmp_path / "models" / name).rename(tmp_path / name)
    said = {}
    for block in blocks("use the stages from Python"):
        exec(block, said)
    table = said["table"]
    means = table[(table["measure"] == "cka") & (table["statistic"] == "mean_over_layers")]
    assert len(means)
    assert means["value"].between(0.01, 0.99).all()
    assert said["vectors"].shape == (2, 32)
