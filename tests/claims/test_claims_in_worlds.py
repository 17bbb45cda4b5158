"""Verdicts in worlds of known truth, on few draws; `bench/verdicts.py` takes many."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("sinks", ["", ", 4 sinks", ", 57 sinks"])
def test_unrelated_models_preserve_no_geometry_whatever_sinks_they_share(benchmark, sinks):
    world = f"unrelated models{sinks}"
    counts = benchmark("verdicts").state_worlds(draws=3, names=(world,))[world]
    assert counts["global_geometry_preserved", False, "fails"] == 3
    assert counts["local_geometry_reorganised", True, "holds"] == 3


@pytest.mark.slow
def test_verdicts_on_gains_are_seldom_wrong_and_find_what_is_there(benchmark):
    verdicts = benchmark("verdicts")
    found = verdicts.score_worlds(draws=20, names=tuple(verdicts.SCORE_WORLDS))
    wrong = sum(
        n for counts in found.values() for (_, true, v), n in counts.items() if verdicts.is_false(true, v)
    )
    assert wrong <= 10  # of 200 verdicts, a twentieth
    assert found["identical models"]["null_effect", True, "holds"] == 20
    assert found["a gain of three margins"]["null_effect", False, "fails"] == 20
