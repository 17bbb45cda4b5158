"""The tests behind the verdicts: equivalence, paired differences, Holm's correction.

Differences come as a table of tasks by seeds. Both are treated as drawn from a larger world
(crossed random effects), so an interval speaks of further tasks and further seeds; with one seed
this is the t-test over tasks, with one task the t-test over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from scipy.special import digamma, stdtr, stdtrit  # scipy.stats takes a second to import

NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and the degrees of freedom behind it."""

    value: float
    error: float
    freedom: float = np.inf

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided interval of that level."""
        if not np.isfinite(self.error):
            return -np.inf, np.inf
        half = float(stdtrit(self.freedom, 0.5 + level / 2)) * self.error
        return self.value - half, self.value + half

    def p_above(self, threshold: float) -> float:
        """The p-value for the alternative that the value lies above the threshold."""
        if not np.isfinite(self.error):
            return 1.0
        if self.error == 0:
            return 0.0 if self.value > threshold else 1.0
        return float(stdtr(self.freedom, (threshold - self.value) / self.error))

    def p_below(self, threshold: float) -> float:
        """The p-value for the alternative that the value lies below the threshold."""
        return Estimate(-self.value, self.error, self.freedom).p_above(-threshold)

    def p_differs(self, threshold: float = 0.0) -> float:
        """The two-sided p-value for a value other than the threshold."""
        return min(1.0, 2 * min(self.p_above(threshold), self.p_below(threshold)))

    def p_equivalent(self, margin: float) -> float:
        """Two one-sided tests (TOST): the p-value for a value within ± margin."""
        return max(self.p_above(-margin), self.p_below(margin))

    def p_beyond(self, margin: float) -> float:
        """The p-value for a value outside ± margin, on either side."""
        return min(1.0, 2 * min(self.p_above(margin), self.p_below(-margin)))

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference of two independent estimates (Welch's degrees of freedom)."""
        a, b = self.error**2, other.error**2
        below = a**2 / self.freedom + b**2 / other.freedom
        return Estimate(
            self.value - other.value, float(np.sqrt(a + b)), (a + b) ** 2 / below if below else np.inf
        )

    def times(self, factor: float) -> "Estimate":
        """The estimate scaled."""
        return Estimate(self.value * factor, self.error * abs(factor), self.freedom)


UNKNOWN = Estimate(np.nan, np.inf)


def mean_of(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of independent values; of a single one the error is unknown."""
    values = np.asarray(values, float)
    if len(values) == 0:
        return UNKNOWN
    if len(values) == 1:
        return Estimate(float(values[0]), np.inf)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), len(values) - 1)


def moving_together(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of estimates, as wide as if their errors moved together, which is never too narrow."""
    if not estimates:
        return UNKNOWN
    value, error = (float(np.mean([getattr(e, name) for e in estimates])) for name in ("value", "error"))
    return Estimate(value, error, min(e.freedom for e in estimates))


def mean_of_strata(estimates: Sequence[Estimate]) -> Estimate:
    """The plain mean of independent estimates with errors of their own (Welch's degrees of freedom)."""
    if not estimates:
        return UNKNOWN
    squares = np.array([e.error**2 for e in estimates])
    below = sum(e.error**4 / e.freedom for e in estimates)
    return Estimate(
        float(np.mean([e.value for e in estimates])),
        float(np.sqrt(squares.sum()) / len(estimates)),
        float(squares.sum() ** 2 / below) if 0 < below < np.inf else np.inf,
    )


def crossed_mean(table: np.ndarray, clusters: Sequence[str] | None = None) -> Estimate:
    """The grand mean of a tasks × seeds table without gaps, tasks and seeds both random.

    The variance is (MS_tasks + MS_seeds - MS_rest) / (T S), never below its largest single source,
    with Satterthwaite's degrees of freedom. Tasks of one cluster may go together: where clusters scatter
    more than tasks drawn one by one would, the mean square with what they add takes the tasks' place.
    """
    table = np.asarray(table, float)
    tasks, seeds = table.shape
    of_clusters = _cluster_square(table, clusters)
    if min(tasks, seeds) <= 1 and (of_clusters is None or tasks == 1):
        return mean_of(table.ravel())
    square = np.array([table.var(ddof=1)]) if seeds == 1 else crossed_squares(table)
    return from_squares(float(table.mean()), square, (tasks, seeds), of_clusters)


def crossed_squares(table: np.ndarray) -> np.ndarray:
    """The mean squares of tasks, of seeds and of the rest."""
    tasks, seeds = table.shape
    grand = table.mean()
    rows, columns = table.mean(1) - grand, table.mean(0) - grand
    rest = table - grand - rows[:, None] - columns[None, :]
    squares = np.array([seeds * (rows**2).sum(), tasks * (columns**2).sum(), (rest**2).sum()])
    return squares / [tasks - 1, seeds - 1, (tasks - 1) * (seeds - 1)]


def from_squares(
    value: float, square: np.ndarray, shape: tuple[int, int], of_clusters: tuple[float, float] | None = None
) -> Estimate:
    """The estimate that mean squares of tasks, seeds and the rest lead to; of tasks alone with one seed."""
    tasks, seeds = shape
    free = np.array([tasks - 1, seeds - 1, (tasks - 1) * (seeds - 1)], float)
    square = square.copy()
    if of_clusters is not None and of_clusters[0] > square[0]:
        square[0], free[0] = of_clusters
    if seeds == 1:
        return Estimate(value, float(np.sqrt(square[0] / tasks)), float(free[0]))
    summed = square[0] + square[1] - square[2]
    largest = int(np.argmax(square[:2]))
    if summed <= square[largest]:
        variance, freedom = square[largest], free[largest]
    else:
        variance, freedom = summed, summed**2 / (square**2 / free).sum()
    return Estimate(value, float(np.sqrt(variance / (tasks * seeds))), float(freedom))


def _cluster_square(table: np.ndarray, clusters: Sequence[str] | None) -> tuple[float, float] | None:
    """The tasks' mean square where clusters of tasks are drawn, and its degrees of freedom."""
    if clusters is None:
        return None
    tasks, seeds = table.shape
    means, of_task = table.mean(1), np.unique(np.asarray(clusters), return_inverse=True)[1]
    sizes = np.bincount(of_task)
    if not 1 < len(sizes) < tasks:
        return None
    by_cluster = np.bincount(of_task, means) / sizes
    between = (sizes * (by_cluster - means.mean()) ** 2).sum() / (len(sizes) - 1)
    within = ((means - by_cluster[of_task]) ** 2).sum() / (tasks - len(sizes))
    return square_of_clusters(float(between), float(within), sizes, seeds)


def square_of_clusters(
    between: float, within: float, sizes: np.ndarray, seeds: int
) -> tuple[float, float] | None:
    """S T times the variance of the grand mean where clusters are drawn; nothing where they add none.

    Mean squares of the tasks' means show what clusters add, c² = (between - within) / n', with
    n' = (T - Σ n² / T) / (C - 1). A mean of T tasks then has the variance c² Σ n² / T² + within / T, which is
    a sum of the two mean squares (Satterthwaite). Clusters of unequal size leave `between` fewer degrees of
    freedom than C - 1: tr(G)² / tr(G²), where G is the covariance of √n (mean_c - mean).
    """
    tasks, count = sizes.sum(), len(sizes)
    usual = (tasks - (sizes**2).sum() / tasks) / (count - 1)
    added = (between - within) / usual
    if added <= 0:
        return None
    of_between = (sizes**2).sum() / tasks / usual  # times `between`, and the remainder of 1 times `within`
    scaled = np.sqrt(sizes)[:, None] * (np.eye(count) - sizes / tasks) * np.sqrt(added + within / sizes)
    covariance = scaled @ scaled.T
    free = np.array([np.trace(covariance) ** 2 / (covariance**2).sum(), tasks - count])
    parts = np.array([of_between * between, (1 - of_between) * within])
    return float(seeds * parts.sum()), float(parts.sum() ** 2 / (parts**2 / free).sum())


def from_interval(
    value: float, low: float, high: float, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """The estimate behind a shown 95 % interval; unknown error where there is none.

    An end may have been cut off at the range's bounds, so the farther end tells the error; where both
    ends lie at the bounds, neither does.
    """
    if not np.isfinite(value):
        return UNKNOWN
    half = max(high - value, value - low)
    known = np.isfinite(half) and (low, high) != bounds
    return Estimate(float(value), float(half / NORMAL_95) if known else np.inf)


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over seeds of estimates with errors of their own, which the seeds share (same texts).

    The texts' error does not shrink with more seeds; the seeds' own scatter is added to it, with
    Satterthwaite's degrees of freedom.
    """
    known = [e for e in estimates if np.isfinite(e.value)]
    if len(known) < 2:
        return known[0] if known else UNKNOWN
    within = float(np.sqrt(np.mean([e.error**2 for e in known])))
    texts = Estimate(0.0, within, min(e.freedom for e in known))
    return _with_error_of(mean_of([e.value for e in known]), texts)


BySeeds = Mapping[tuple[int, int], Estimate]  # comparisons by the seeds of their left and right sides


def beyond_seeds(across: BySeeds, left: BySeeds, right: BySeeds) -> Estimate:
    """How far comparisons of L with R across seeds lie from those of L, or R, with itself.

    For two seeds i < j,

        h_ij = ½ (d(L_i, R_j) + d(L_j, R_i)) − ½ (d(L_i, L_j) + d(R_i, R_j))

    holds each training once on either side of the minus, so what a training adds to all of its comparisons
    cancels. The value is the mean of h over pairs of seeds. Its error over seeds is the jackknife's, which
    leaves out each seed. Two seeds give one h: its error is then read from how far the two comparisons on
    either side of the minus lie apart, as if all four were independent, which is too wide. The texts' error
    is added.
    """
    seeds = sorted({seed for pair in left for seed in pair})
    pairs = list(combinations(seeds, 2))
    if not pairs or not ({*pairs} <= {*left} & {*right} and {*permutations(seeds, 2)} <= {*across}):
        return UNKNOWN
    crossed = np.array([[across[i, j].value, across[j, i].value] for i, j in pairs])
    within = np.array([[left[pair].value, right[pair].value] for pair in pairs])
    h = crossed.mean(1) - within.mean(1)
    if len(seeds) == 2:
        noise = mean_of(crossed[0]) - mean_of(within[0])
    else:
        without = np.array(
            [np.mean([v for pair, v in zip(pairs, h, strict=True) if s not in pair]) for s in seeds]
        )
        noise = Estimate(h.mean(), np.sqrt((len(seeds) - 1) * without.var()), len(seeds) - 1)
    sides = (
        [across[pair] for pair in permutations(seeds, 2)],
        [e for pair in pairs for e in (left[pair], right[pair])],
    )
    return _with_error_of(noise, moving_together(sides[0]) - moving_together(sides[1]))


def _with_error_of(noise: Estimate, texts: Estimate) -> Estimate:
    """The estimate with the error of the texts added, if it is known (Satterthwaite's degrees of freedom)."""
    return noise - Estimate(0.0, texts.error, texts.freedom) if np.isfinite(texts.error) else noise


def least_p(freedom: float) -> float:
    """The least p-value worth printing: far in the tail no t with few degrees of freedom is to be trusted.

    It is what the signs alone of so many independent contributions can show, 2^-(freedom + 1), or 0.001.
    """
    return float(min(1e-3, 2.0 ** -(min(freedom, 52) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, running)
    return [float(p) for p in adjusted]


def random_rotation_entropy(width: int) -> float:
    """The expected inverse row entropy of a random rotation (Haar) of that width."""
    return float(1 - (digamma(width / 2 + 1) - digamma(1.5)) / np.log(width))
