from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import ortho_group
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from realign.results.statistics import (
    Estimate,
    beyond_seeds,
    crossed_mean,
    from_interval,
    holm,
    mean_of,
    over_seeds,
    random_rotation_entropy,
)


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    left = random.normal(50, 8, 30)
    return left, left + random.normal(0.2, 0.9, 30)


def test_the_paired_test_is_scipys(pairs):
    left, right = pairs
    estimate = mean_of(right - left)
    assert estimate.p_differs() == pytest.approx(stats.ttest_rel(right, left).pvalue)
    assert estimate.p_above(0) == pytest.approx(stats.ttest_rel(right, left, alternative="greater").pvalue)
    assert estimate.p_below(0) == pytest.approx(stats.ttest_rel(right, left, alternative="less").pvalue)


@pytest.mark.parametrize("margin", [0.1, 0.3, 0.5, 1.0])
def test_equivalence_is_statsmodels_two_one_sided_tests(pairs, margin):
    left, right = pairs
    p, _, _ = ttost_paired(right, left, -margin, margin)
    assert mean_of(right - left).p_equivalent(margin) == pytest.approx(p)


def test_the_interval_is_statsmodels(pairs):
    left, right = pairs
    told = DescrStatsW(right - left).tconfint_mean(alpha=0.1)
    assert mean_of(right - left).interval(0.90) == pytest.approx(told)


def test_an_interval_within_the_margin_is_equivalence(pairs):
    """TOST at level a and the 1 - 2a interval are the same decision."""
    left, right = pairs
    estimate = mean_of(right - left)
    low, high = estimate.interval(0.90)
    for margin in np.linspace(0.05, 1.5, 40):
        assert (estimate.p_equivalent(margin) < 0.05) == (-margin < low and high < margin)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_holm_is_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_holm_of_nothing():
    assert holm([]) == []


def test_one_seed_is_the_test_over_tasks_and_one_task_the_test_over_seeds():
    values = np.random.default_rng(0).normal(0.3, 1, 12)
    for table in (values[:, None], values[None, :]):
        estimate = crossed_mean(table)
        assert estimate.p_differs() == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_crossed_mean_is_the_anova_of_a_two_way_layout():
    """Mean squares against an independent computation by least squares."""
    import pandas as pd
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    random = np.random.default_rng(5)
    table = random.normal(0, 1, (9, 1)) + random.normal(0, 0.7, (1, 4)) + random.normal(0, 0.4, (9, 4))
    rows, columns = np.indices(table.shape)
    frame = pd.DataFrame({"y": table.ravel(), "task": rows.ravel(), "seed": columns.ravel()})
    squares = sm.stats.anova_lm(smf.ols("y ~ C(task) + C(seed)", frame).fit())
    square = squares["sum_sq"] / squares["df"]
    variance = (square["C(task)"] + square["C(seed)"] - square["Residual"]) / table.size
    estimate = crossed_mean(table)
    assert estimate.value == pytest.approx(table.mean())
    assert estimate.error**2 == pytest.approx(variance)


def test_crossed_intervals_cover_the_truth():
    """95 % intervals of tables with random tasks and seeds hold the true mean about that often."""
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(600):
        table = (
            0.5
            + random.normal(0, 1, (20, 1))
            + random.normal(0, 0.5, (1, 3))
            + random.normal(0, 0.5, (20, 3))
        )
        low, high = crossed_mean(table).interval()
        hits += low < 0.5 < high
    assert 0.92 < hits / 600 <= 1.0


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_the_truth_where_tasks_of_a_type_go_together(seeds):
    """131 tasks of 20 types, half of the variance between types: the nominal level is 90 %."""
    random = np.random.default_rng(5)
    types = np.sort(random.integers(0, 20, 131))
    plain = clustered = 0
    for _ in range(400):
        tasks = random.normal(0, 0.7, 20)[types] + random.normal(0, 0.7, 131)
        table = tasks[:, None] + random.normal(0, 0.3, (131, seeds))
        low, high = crossed_mean(table).interval(0.9)
        plain += low < 0 < high
        low, high = crossed_mean(table, types).interval(0.9)
        clustered += low < 0 < high
    assert plain / 400 < 0.7
    assert clustered / 400 >= 0.86  # three standard errors below 0.9 with 400 draws


@pytest.mark.parametrize("of_cluster", [0.0, 0.6, 2.0])
def test_clusters_of_unequal_size_are_covered_too(of_cluster):
    """Two large types decide most of the mean: fewer degrees of freedom than clusters, and a larger error."""
    types = np.repeat(list("abcdef"), [20, 10, 5, 5, 3, 2])
    code = np.repeat(np.arange(6), [20, 10, 5, 5, 3, 2])
    random, above, covered = np.random.default_rng(8), 0, 0
    for _ in range(400):
        of_task = of_cluster * random.standard_normal(6)[code] + 0.5 * random.standard_normal(45)
        estimate = crossed_mean(of_task[:, None] + 0.3 * random.standard_normal((45, 3)), types)
        low, high = estimate.interval(0.9)
        covered += low < 0 < high
        above += estimate.p_above(0) < 0.05
    assert covered / 400 >= 0.86
    assert above / 400 <= 0.08  # nominal 5 %, and three standard errors


def test_seeds_keep_the_degrees_of_freedom_of_the_texts():
    texts = Estimate(0.5, 0.02, 19.0)
    assert over_seeds([texts, texts]).freedom == pytest.approx(19.0)
    apart = over_seeds([Estimate(0.49, 0.02, 19.0), Estimate(0.51, 0.02, 19.0)])
    assert apart.freedom == pytest.approx(0.0005**2 / (0.0004**2 / 19 + 0.0001**2 / 1))


def test_a_shared_seed_effect_widens_the_interval():
    random = np.random.default_rng(2)
    rest = random.normal(0, 0.3, (30, 3))
    shifted = rest + np.array([-1.0, 0.0, 1.0])
    assert crossed_mean(shifted).error > 3 * crossed_mean(rest).error


def test_differences_of_estimates_follow_welch():
    random = np.random.default_rng(8)
    a, b = random.normal(1, 1, 12), random.normal(0.4, 3, 25)
    difference = mean_of(a) - mean_of(b)
    told = stats.ttest_ind(a, b, equal_var=False)
    assert difference.freedom == pytest.approx(told.df)
    assert difference.p_differs() == pytest.approx(told.pvalue)


def test_an_unknown_error_decides_nothing():
    estimate = mean_of([0.7])
    assert estimate.p_above(-100) == estimate.p_below(100) == estimate.p_equivalent(100) == 1.0
    assert estimate.interval() == (-np.inf, np.inf)
    assert from_interval(0.7, np.nan, np.nan).p_differs() == 1.0


def test_intervals_survive_the_round_trip():
    assert from_interval(0.5, 0.4, 0.6).interval() == pytest.approx((0.4, 0.6))


def test_more_seeds_do_not_shrink_the_error_of_the_texts():
    one = Estimate(0.5, 0.02)
    same = over_seeds([one, one, one])
    assert same.error == pytest.approx(0.02)
    assert over_seeds([Estimate(0.4, 0.02), Estimate(0.6, 0.02)]).error > 0.05


def trainings(random, seeds: int, apart: float):
    """Overlaps of two backbones' trainings: each training moves all of its comparisons, and each pair its own."""
    names = [(side, seed) for side in "LR" for seed in range(seeds)]
    moves = dict(zip(names, random.normal(0, 0.02, len(names)), strict=True))

    def overlap(one, other):
        mean = 0.5 - apart * (one[0] != other[0])
        return Estimate(mean + moves[one] + moves[other] + random.normal(0, 0.01), 0.0)

    across = {(i, j): overlap(("L", i), ("R", j)) for i, j in permutations(range(seeds), 2)}
    within = ({(i, j): overlap((s, i), (s, j)) for i, j in combinations(range(seeds), 2)} for s in "LR")
    return across, *within


@pytest.mark.parametrize(("seeds", "found"), [(2, 0.15), (3, 0.7), (5, 0.99)])
def test_seeds_tell_a_change_from_their_own_noise_and_seldom_find_one_where_there_is_none(seeds, found):
    random = np.random.default_rng(seeds)
    none = [beyond_seeds(*trainings(random, seeds, 0.0)).p_below(0) < 0.05 for _ in range(1000)]
    assert np.mean(none) <= 0.05
    there = [beyond_seeds(*trainings(random, seeds, 0.05)).p_below(0) < 0.05 for _ in range(300)]
    assert np.mean(there) >= found


def test_seeds_without_all_of_their_comparisons_tell_nothing():
    across, left, right = trainings(np.random.default_rng(0), 3, 0.05)
    del across[0, 1]
    assert np.isnan(beyond_seeds(across, left, right).value)
    assert np.isnan(beyond_seeds({}, {}, {}).value)


def test_a_random_rotations_entropy_is_its_mean_over_haar_draws():
    width = 64
    squares = ortho_group.rvs(width, size=20, random_state=1) ** 2
    entropy = -(squares * np.log(squares)).sum((1, 2)) / (width * np.log(width))
    assert random_rotation_entropy(width) == pytest.approx((1 - entropy).mean(), abs=2e-3)
