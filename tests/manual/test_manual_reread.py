"""The page that rereads the paper follows its numbers and the rules."""

import importlib.util
import shutil
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reread.py"


@pytest.fixture
def reread():
    spec = importlib.util.spec_from_file_location("reread", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verdict(page: str, claim: str) -> str:
    return next(line.split(" | ")[2] for line in page.splitlines() if line.startswith(f"| {claim}"))


def test_verdicts_follow_the_printed_numbers(reread, tmp_path, monkeypatch):
    drifts, scores = "The basis drifts under prolonged", "Scores are equivalent on these very tasks"
    assert verdict(reread.page(), drifts) == "hangs on a choice"
    assert verdict(reread.page(), scores) == "confirmed"
    shutil.copytree(reread.FOLDER, tmp_path, dirs_exist_ok=True)
    rotation = pd.read_csv(tmp_path / "rotation.csv")
    of_mmlu = (
        (rotation["right"] == reread.PROLONGED)
        & (rotation["corpus"] == "mmlu-pro")
        & (rotation["table"] == 12)
    )
    rotation.loc[of_mmlu, "value"] = 0.2
    rotation.to_csv(tmp_path / "rotation.csv", index=False)
    gains = pd.read_csv(tmp_path / "benchmarks.csv")
    gains.loc[gains["kind"] == "rlvr", "gain"] = 4.0
    gains.to_csv(tmp_path / "benchmarks.csv", index=False)
    monkeypatch.setattr(reread, "FOLDER", tmp_path)
    assert verdict(reread.page(), drifts) == "confirmed"
    assert verdict(reread.page(), scores) == "contradicted"


def test_a_bearable_spread_is_where_equivalence_ends(reread):
    """Qwen3-4B on MTEB(Code, v1): +0.67 on 12 tasks."""
    line = next(x for x in reread.page().splitlines() if "Qwen3-4B-PSR | MTEB(Code" in x)
    spread = (1 - 0.67) * 12**0.5 / stats.t.ppf(0.95, 11)
    assert line.split(" | ")[-1].removesuffix(" |") == f"{spread:.1f}"
