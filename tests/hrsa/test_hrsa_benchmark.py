"""The benchmark beside the published way, and the options of all benchmarks."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import realign.hrsa.api
from realign.hrsa import commands

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def similarity(benchmark):
    return benchmark("hrsa")


def one_round(theirs, ours):
    """Seconds by either clock: theirs with extraction, and each of our parts."""
    words = ("our extraction", *(f"our {family}, with intervals" for family in ("linear", "neighbours")))
    found = {name: [ours, 2 * ours] for name in words}
    for part in ("states at hand", "with extraction"):
        found[f"the published way without its collector, {part}"] = [theirs, 2 * theirs]
    return found | {f"bound of the products, {family}": [1.0, 4.0] for family in ("linear", "neighbours")}


def test_ratios_are_within_a_round_and_have_the_aims(similarity, capsys):
    similarity.report("toy", [one_round(6.0, 1.0), one_round(12.0, 2.0), one_round(12.0, 4.0)])
    lines = capsys.readouterr().out.splitlines()
    rows = {row["measure"]: row for row in (json.loads(line.removeprefix("MEASURED ")) for line in lines)}
    theirs = "time, the published way without its collector / ours"
    expected = {  # of whole rounds: (6, 12, 12) / 3 × (1, 2, 4), and so on
        f"{theirs}, extraction included": (2.0, [1.0, 2.0], "≥ 2"),
        f"{theirs}, states at hand": (3.0, [1.5, 3.0], "≥ 1"),
        "time, ours with intervals / bound": (2.0, [1.0, 4.0], "≤ 1.5"),
        "processor time, our linear with intervals / bound": (1.0, [0.5, 2.0], "≤ 1.5"),
    }
    for measure, (value, between, aim) in expected.items():
        row = rows[measure]
        assert (row["value"], row["between"], row["aim"]) == (value, between, aim), measure


def test_the_bound_grows_with_the_products(similarity, monkeypatch):
    """At a billion operations a second: two a product, corresponding layers twice as fast in float32."""
    monkeypatch.setattr(similarity, "taken", lambda work, times: (work, [2 * 2048**3 / 1e9] * 2))
    found = similarity.bound(tokens=1000, layers=3, width=10)
    assert found["linear"] == pytest.approx([2 * 1000 * 100 * (9 + 6 + 3) / 1e9] * 2)
    assert found["neighbours"] == pytest.approx([1000**2 * 10 * 6 / 1e9] * 2)


def test_busy_processes_end_with_what_they_stand_beside(similarity):
    with similarity.busy(2) as others:
        assert [other.poll() for other in others] == [None, None]
    assert all(other.returncode is not None for other in others)


def test_both_ways_measure_the_same(benchmark):
    """The published way on states of ours; its collector changes nothing."""
    compare = benchmark("published").compare
    torch.manual_seed(0)
    left = torch.randn(2, 200, 8)
    right = left + 0.3 * torch.randn(2, 200, 8)
    found = [compare(lambda: [left, right], (5, 10), collect) for collect in (False, True)]
    for measure, values in found[0].items():
        assert torch.equal(values, found[1][measure]), measure
    tidy = realign.hrsa.api.compare(left.numpy(), right.numpy(), families=["linear"])
    cka = tidy[(tidy.measure == "cka") & (tidy.statistic == "value")]
    ours = cka.pivot(index="layer_left", columns="layer_right", values="value")
    assert ours.to_numpy(float) == pytest.approx(found[0]["cka"].numpy(), abs=1e-5)


def test_families_that_are_measured_need_two_files_alone(similarity):
    for family in similarity.OF_STATES:
        assert set(getattr(commands, family.upper()).inputs) == {"left", "right"}, family


def test_each_benchmark_knows_the_options_that_it_is_run_with(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH.parent))
    every = importlib.import_module("bench.__main__")
    for name, options in [
        *every.QUICK.items(),
        *((n, o) for n, each in every.VARIANTS.items() for o in each),
    ]:
        text = (BENCH / f"{name}.py").read_text(encoding="utf-8")
        assert all(f'"{word}"' in text for word in options if word.startswith("--")), name
