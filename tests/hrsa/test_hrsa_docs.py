"""The page on comparing: its example runs, and its table says of each interval what it is about."""

import re
from pathlib import Path

import pytest

from realign.hrsa.estimands import ESTIMANDS, MEAN, estimand

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


def test_the_table_says_what_each_interval_is_about():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    for name, sentence in ESTIMANDS.items():
        measure, statistic = name.split(".")
        said = [row for row in rows if sentence in row.replace("\\|", "|")]
        assert any(statistic in row for row in said) or statistic.endswith("_change"), name
        assert said, f"{measure}: {sentence}"
    assert estimand("cka", "mean_over_layers") == MEAN + ESTIMANDS["cka.value"]
    with pytest.raises(KeyError):
        estimand("cka", "median")
