"""The page on comparing: its example runs, and its table says of each interval what it is about."""

import re
from pathlib import Path

import pytest

from realign.measures.registry import MEAN, statistic_of
from realign.measures.table import MEASURES

PAGE = (Path(__file__).parents[2] / "docs/hrsa.md").read_text()


def test_the_example_runs(pair, text_index, tmp_path, make_file, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, values in zip("AB", pair, strict=True):
        make_file(tmp_path / f"{name}.h5", values, text_index)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope = {}
    exec(example, scope)
    assert "biased CKA" in capsys.readouterr().out
    assert set(scope["table"].measure) == {"sample", "probe"}
    assert 0.5 < scope["cka"].value.item() < 1
    rotated = scope["floor"]
    assert rotated[(rotated.measure == "cka") & (rotated.statistic == "value")].value.max() == pytest.approx(
        1
    )


def test_the_table_says_of_each_number_what_its_interval_is_about():
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("|")]
    row = next(row for row in rows if row[1:2] == ["`cka_debiased`"])
    assert row[3:] == ["`value`", "−1 to 1", MEASURES["cka_debiased"].main.estimand + " |"]
    (angle,) = (row for row in rows if "`angular_distance`" in row)
    assert angle[4] == "0 to π/2"
    (first, *_) = (row for row in rows if "`r2`" in row)
    assert first[4] == "1 or less"
    assert any(row[1:2] == ["`svcca`"] and row[-1] == "no interval |" for row in rows)
    assert statistic_of("cka", "mean_over_layers").estimand == MEAN + MEASURES["cka"].main.estimand
    with pytest.raises(KeyError):
        statistic_of("cka", "median")
