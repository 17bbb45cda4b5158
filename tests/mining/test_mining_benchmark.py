"""The benchmark's numbers: medians over rounds, ratios within a round."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    described = importlib.util.spec_from_file_location("mining_benchmark", ROOT / "bench" / "mining.py")
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


def rows_of(benchmark, capsys, seconds):
    """What is printed of rounds that took (ours, library) seconds, by measure."""
    rounds = [
        {
            name: {"seconds": taken, "cpu_seconds": 1.0, "peak_gb": 1.0}
            for name, taken in zip(benchmark.RUNS, both, strict=True)
        }
        for both in seconds
    ]
    benchmark.tell("toy", rounds)
    lines = capsys.readouterr().out.splitlines()
    return {row["measure"]: row for row in (json.loads(line.removeprefix("MEASURED ")) for line in lines)}


def test_a_slow_round_falls_on_both_sides(benchmark, capsys):
    """The machine was three times as slow in the second round; the ratio does not see it."""
    rows = rows_of(benchmark, capsys, [(2.0, 3.0), (6.0, 9.0), (4.0, 5.0)])
    assert (rows["time, ours"]["value"], rows["time, ours"]["between"]) == (4.0, [2.0, 6.0])
    assert (rows["time, library"]["value"], rows["time, library"]["between"]) == (5.0, [3.0, 9.0])
    ratio = rows["time, library / ours"]
    assert (ratio["value"], ratio["between"], ratio["aim"]) == (1.5, [1.25, 1.5], "≥ 1")  # not 5 / 4


def test_one_round_has_no_range(benchmark, capsys):
    assert "between" not in rows_of(benchmark, capsys, [(2.0, 3.0)])["time, ours"]


def test_each_side_is_first_in_every_other_round(benchmark):
    assert benchmark.orders(3) == [["ours", "library"], ["library", "ours"], ["ours", "library"]]


def test_the_page_shows_the_range(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.table import shown

    assert shown({"value": 1.5, "unit": "×", "between": [1.25, 1.5]}) == "1.50 × (1.25 to 1.50)"
    assert shown({"value": 3, "unit": "%"}) == "3 %"


@pytest.mark.parametrize(
    ("value", "aim", "said"),
    [(1.0, "≥ 1", True), (0.99, "≥ 1, better 2", False), (1.4, "≤ 1.3", False), (1.1e-7, "≤ 1e-4", True)],
)
def test_a_kept_number_says_whether_it_reached_its_aim(monkeypatch, value, aim, said):
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.table import reached

    assert reached({"value": value, "aim": aim}) is said
