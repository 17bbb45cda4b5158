"""What a design is said to decide, against what simulated scores do decide."""

import numpy as np
import pytest
from scipy import stats

from realign.results.power import (
    Spread,
    chance_above,
    chance_within,
    could_decide,
    expected,
    least_distance,
    least_margin,
    spread_of,
)
from realign.results.statistics import Estimate, crossed_mean, mean_of

DRAWS = 1500
MIXED = ("a",) * 20 + ("b",) * 10 + ("c",) * 5 + ("d",) * 5 + ("e",) * 3 + ("f",) * 2
SPREADS = {
    "tasks lead": (Spread(task=1.0, type=0.0, seed=0.1, rest=0.3), ("a",) * 12, 3),
    "seeds lead": (Spread(task=0.3, type=0.0, seed=0.4, rest=0.3), ("a",) * 30, 4),
    "types lead": (Spread(task=0.5, type=0.6, seed=0.1, rest=0.3), MIXED, 3),
    "one seed": (Spread(task=1.0, type=0.3, seed=0.0, rest=0.3), MIXED, 1),
}


def tables(random, spread, types, seeds, gain):
    """Tables of tasks × seeds of one spread."""
    code = np.unique(types, return_inverse=True)[1]
    for _ in range(DRAWS):
        of_task = spread.type * random.standard_normal(code.max() + 1)[code]
        of_task = of_task + spread.task * random.standard_normal(len(types))
        of_seed = spread.seed * random.standard_normal(seeds)
        rest = spread.rest * random.standard_normal((len(types), seeds))
        yield gain + of_task[:, None] + of_seed + rest


@pytest.mark.parametrize("world", SPREADS)
def test_a_least_difference_is_found_and_excluded_in_four_runs_of_five(world):
    spread, types, seeds = SPREADS[world]
    ours = expected(spread, types, seeds)
    found, excluded = (
        least_distance(ours.error, ours.freedom, 0.025),
        least_margin(ours.error, ours.freedom, 0.05),
    )
    random = np.random.default_rng(5)
    there = [crossed_mean(t, types).p_above(0.0) < 0.025 for t in tables(random, spread, types, seeds, found)]
    none = [
        crossed_mean(t, types).p_equivalent(excluded) < 0.05 for t in tables(random, spread, types, seeds, 0)
    ]
    assert np.mean(there) == pytest.approx(0.8, abs=0.06)
    assert np.mean(none) == pytest.approx(0.8, abs=0.06)


def test_of_fixed_tasks_the_seeds_alone_decide():
    spread, types, seeds = Spread(task=3.0, type=2.0, seed=0.2, rest=0.3), ("a",) * 12, 3
    ours = expected(spread, types, seeds, over="seeds")
    found = least_distance(ours.error, ours.freedom, 0.025)
    random = np.random.default_rng(6)
    fixed = 2.0 * random.standard_normal((12, 1))
    fixed -= fixed.mean()
    without_tasks = Spread(task=0.0, type=0.0, seed=0.2, rest=0.3)
    there = [
        mean_of((fixed + t).mean(0)).p_above(0.0) < 0.025
        for t in tables(random, without_tasks, types, seeds, found)
    ]
    assert np.mean(there) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("freedom", [1, 4, 30, np.inf])
def test_a_one_sided_test_has_the_power_of_the_noncentral_t(freedom):
    limit = stats.t.ppf(0.95, freedom)
    ours = chance_above(0.6, 0.2, freedom, 0.05)
    theirs = stats.norm.sf(limit - 3.0) if np.isinf(freedom) else stats.nct.sf(limit, freedom, 3.0)
    assert ours == pytest.approx(theirs, abs=2e-3)


def test_an_equivalence_has_the_power_that_draws_show():
    random = np.random.default_rng(0)
    value = 0.2 + 0.5 * random.standard_normal(200_000)
    error = 0.5 * np.sqrt(random.chisquare(6, 200_000) / 6)
    holds = np.abs(value) + stats.t.ppf(0.95, 6) * error < 1.5
    assert chance_within(0.2, 1.5, 0.5, 6, 0.05) == pytest.approx(holds.mean(), abs=5e-3)


def test_a_spread_is_found_again():
    random = np.random.default_rng(1)
    truth = Spread(task=1.0, type=0.8, seed=0.4, rest=0.5)
    types = tuple(f"t{i % 40}" for i in range(400))
    found = spread_of(next(tables(random, truth, types, 60, 1.0)), types)
    assert [found.task, found.type, found.seed, found.rest] == pytest.approx([1.0, 0.8, 0.4, 0.5], rel=0.25)


def test_one_task_says_nothing_of_others_and_one_seed_nothing_of_others():
    spread = Spread(task=1.0, type=0.5, seed=0.1, rest=0.1)
    assert not np.isfinite(expected(spread, ("a",), 3).error)
    assert not np.isfinite(expected(spread, ("a", "b"), 1, over="seeds").error)
    assert not np.isfinite(expected(spread, ("a", "a", "b"), 1).error)


def test_without_any_scatter_a_difference_within_the_margin_is_always_found():
    nothing = expected(Spread(0.0, 0.0), ("a", "a", "b"), 3)
    assert nothing.error == 0
    assert [chance_within(x, 1.0, nothing.error, nothing.freedom, 0.05) for x in (0.0, 1.5)] == [1.0, 0.0]


@pytest.mark.parametrize("rule", ["above", "below", "above_floor", "equivalent", "different"])
def test_what_could_be_decided_is_decided_in_four_runs_of_five(rule):
    """The value is moved to where it says, and draws are judged as a claim's test is."""
    error, freedom, threshold, failing = 0.1, 12, 0.5, 0.05 / 4
    reach = could_decide(Estimate(0.52, error, freedom), rule, threshold, 0.05, failing)
    random = np.random.default_rng(2)
    noise = error * random.standard_normal(4000)
    own = error * np.sqrt(random.chisquare(freedom, 4000) / freedom)

    def share(true, decided):
        return np.mean([decided(Estimate(true + n, e, freedom)) for n, e in zip(noise, own, strict=True)])

    if rule == "equivalent":
        margin = reach["least_margin"]
        assert share(0.0, lambda e: e.p_equivalent(margin) < 0.05) == pytest.approx(0.8, abs=0.02)
        assert share(reach["fails_from"], lambda e: e.p_beyond(threshold) < failing) == pytest.approx(
            0.8, abs=0.02
        )
    elif rule == "different":
        assert share(reach["holds_from"], lambda e: e.p_differs(threshold) < 0.05) == pytest.approx(
            0.8, abs=0.02
        )
    else:
        up, down = ("holds_from", "fails_from") if rule.startswith("above") else ("fails_from", "holds_from")
        levels = {"holds_from": 0.05, "fails_from": failing}
        assert share(reach[up], lambda e: e.p_above(threshold) < levels[up]) == pytest.approx(0.8, abs=0.02)
        assert share(reach[down], lambda e: e.p_below(threshold) < levels[down]) == pytest.approx(
            0.8, abs=0.02
        )


@pytest.mark.parametrize("estimate", [Estimate(np.nan, 0.1), Estimate(0.5, np.inf), Estimate(0.5, 0.0)])
def test_without_an_error_nothing_is_said_of_what_could_be_decided(estimate):
    assert could_decide(estimate, "above", 0.9, 0.05, 0.05) == {}
