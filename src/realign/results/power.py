"""What a design can decide: the chance that a test finds a difference, and the least one that it finds.

An estimate is drawn around the true value with a known standard error, and its own error has so many
degrees of freedom: error · √(χ²_f / f). A chance is the mean over that error's distribution. It comes from
the same t quantiles that `Estimate` decides by.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from realign.results.statistics import Estimate, crossed_squares, from_squares, square_of_clusters

CHANCE = 0.8  # of finding what is there, as power is usually stated
_QUANTILES = (np.arange(400) + 0.5) / 400


def chance_above(distance: float, error: float, freedom: float, alpha: float) -> float:
    """The chance that a one-sided test finds a value that lies `distance` above its threshold."""
    limit = stdtrit(freedom, 1 - alpha) * _errors(freedom)
    return float(ndtr(distance / error - limit).mean())


def chance_within(value: float, margin: float, error: float, freedom: float, alpha: float) -> float:
    """The chance that two one-sided tests find a value to lie within ± margin."""
    if error == 0:
        return float(abs(value) < margin)
    limit = stdtrit(freedom, 1 - alpha) * _errors(freedom)
    between = ndtr((margin - value) / error - limit) - ndtr((-margin - value) / error + limit)
    return float(np.maximum(0.0, between).mean())


def least_distance(error: float, freedom: float, alpha: float, chance: float = CHANCE) -> float:
    """How far beyond its threshold a value has to lie for a one-sided test to find it with that chance."""
    return _where(lambda x: chance_above(x, 1.0, freedom, alpha), chance) * error


def least_margin(error: float, freedom: float, alpha: float, chance: float = CHANCE) -> float:
    """The least margin within which no difference at all is found to lie with that chance."""
    return _where(lambda x: chance_within(0.0, x, 1.0, freedom, alpha), chance) * error


def could_decide(
    estimate: Estimate, rule: str, threshold: float, alpha: float, alpha_failing: float
) -> dict[str, float]:
    """From which true values on a test with this error would hold, or fail, in four runs of five.

    Of an equivalence instead the least margin that would hold if there were no difference. Nothing where the
    error is not known.
    """
    error, freedom = estimate.error, estimate.freedom
    if not (np.isfinite(estimate.value) and 0 < error < np.inf):
        return {}
    if rule == "equivalent":
        failing = least_distance(error, freedom, alpha_failing / 2)
        return {"least_margin": least_margin(error, freedom, alpha), "fails_from": threshold + failing}
    if rule == "different":
        return {"holds_from": threshold + least_distance(error, freedom, alpha / 2)}
    way = 1 if rule.startswith("above") else -1
    return {
        "holds_from": threshold + way * least_distance(error, freedom, alpha),
        "fails_from": threshold - way * least_distance(error, freedom, alpha_failing),
    }


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a pair's differences, in points of 100: what adds to one score's difference.

    The type of the task, the task itself, the seed of the training, and what is left of a task and a seed.
    """

    task: float
    type: float
    seed: float = 0.0
    rest: float = 0.0


def spread_of(table: np.ndarray, types: Sequence[str]) -> Spread:
    """The spread behind a table of tasks × seeds: analysis of variance, none below zero.

    Types hold different numbers of tasks n_c; what they add is (MS_between − MS_within) / n', with
    n' = (T − Σ n_c² / T) / (C − 1). With one seed the task's part holds the rest's, with one type the type's.
    """
    table = np.asarray(table, float)
    tasks, seeds = table.shape
    means, of_type = table.mean(1), np.unique(np.asarray(types), return_inverse=True)[1]
    sizes = np.bincount(of_type)
    count = len(sizes)
    by_type = np.bincount(of_type, means) / sizes
    within = ((means - by_type[of_type]) ** 2).sum() / max(tasks - count, 1)
    between = 0.0
    if 1 < count < tasks:
        usual = (tasks - (sizes**2).sum() / tasks) / (count - 1)
        between = ((sizes * (by_type - means.mean()) ** 2).sum() / (count - 1) - within) / usual
    seed = rest = 0.0
    if min(tasks, seeds) > 1:
        _, of_seeds, rest = crossed_squares(table)
        seed = (of_seeds - rest) / tasks
    parts = (within - rest / seeds, between, seed, rest)
    return Spread(*(float(np.sqrt(max(0.0, part))) for part in parts))


def usual_spread(spreads: Iterable[Spread]) -> Spread:
    """The median of each part over pairs."""
    parts = np.array([(s.task, s.type, s.seed, s.rest) for s in spreads])
    return Spread(*np.median(parts, axis=0).tolist())


def expected(spread: Spread, types: Sequence[str], seeds: int, over: str = "tasks") -> Estimate:
    """The estimate of a gain of zero that scores of so many tasks and seeds lead to, with its error.

    Mean squares take their expected values, and the error follows from them as from observed ones
    (`crossed_mean`, or `mean_of` over seeds where the tasks are fixed). Scores of one seed do not show how
    far seeds scatter: where they do, the error that the scores show is too small, and none is given.
    """
    tasks, sizes = len(types), np.unique(np.asarray(types), return_counts=True)[1].astype(float)
    type2, task2, seed2, rest2 = (x**2 for x in (spread.type, spread.task, spread.seed, spread.rest))
    if over == "seeds":
        return (
            Estimate(0.0, float(np.sqrt((seed2 + rest2 / tasks) / seeds)), seeds - 1) if seeds > 1 else NONE
        )
    if tasks == 1 or (seeds == 1 and spread.seed > 0):
        return NONE
    second, own = (sizes**2).sum(), task2 + rest2 / seeds
    square = np.array([
        seeds * (own + type2 * (tasks - second / tasks) / (tasks - 1)),
        tasks * seed2 + rest2,
        rest2,
    ])  # fmt: skip
    of_clusters = None
    if 1 < len(sizes) < tasks:
        usual = (tasks - second / tasks) / (len(sizes) - 1)
        of_clusters = square_of_clusters(own + usual * type2, own, sizes, seeds)
    return from_squares(0.0, square, (tasks, seeds), of_clusters)


NONE = Estimate(0.0, np.inf)  # one task says nothing of others, one seed nothing of others


def _errors(freedom: float) -> np.ndarray:
    """Quantiles of the found error over the true one."""
    if not np.isfinite(freedom):
        return np.ones(1)
    return np.sqrt(chdtri(freedom, _QUANTILES) / freedom)


def _where(chance_at: Callable[[float], float], chance: float) -> float:
    """Where an increasing chance, of a distance in standard errors, reaches a value."""
    above = 1.0
    while chance_at(above) < chance:
        above *= 2
    return float(brentq(lambda x: chance_at(x) - chance, 0.0, above, xtol=1e-6))
