"""The tests behind the verdicts: equivalence, paired differences, Holm's correction.

Differences come as a table of tasks by seeds. Both are treated as drawn from a larger world
(crossed random effects), so an interval speaks of further tasks and further seeds; with one seed
this is the t-test over tasks, with one task the t-test over seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    more than tasks drawn one by one would, their mean square takes the tasks' place.
    """
    table = np.asarray(table, float)
    tasks, seeds = table.shape
    of_clusters = _cluster_square(table, clusters)
    if seeds == 1 and of_clusters is not None and tasks > 1:
        square, freedom = max(of_clusters, (table.var(ddof=1), tasks - 1.0))
        return Estimate(float(table.mean()), float(np.sqrt(square / tasks)), freedom)
    if min(tasks, seeds) <= 1:
        return mean_of(table.ravel())
    grand = table.mean()
    rows, columns = table.mean(1) - grand, table.mean(0) - grand
    rest = table - grand - rows[:, None] - columns[None, :]
    free = np.array([tasks - 1, seeds - 1, (tasks - 1) * (seeds - 1)], float)
    square = np.array([seeds * (rows**2).sum(), tasks * (columns**2).sum(), (rest**2).sum()]) / free
    if of_clusters is not None and of_clusters[0] > square[0]:
        square[0], free[0] = of_clusters
    summed = square[0] + square[1] - square[2]
    largest = int(np.argmax(square[:2]))
    if summed <= square[largest]:
        variance, freedom = square[largest], free[largest]
    else:
        variance, freedom = summed, summed**2 / (square**2 / free).sum()
    return Estimate(float(grand), float(np.sqrt(variance / table.size)), float(freedom))


def _cluster_square(table: np.ndarray, clusters: Sequence[str] | None) -> tuple[float, float] | None:
    """The tasks' mean square from sums over clusters of tasks, and its degrees of freedom.

    S/T · C/(C-1) · Σ_c (Σ_{t in c} (mean_t - mean))²: S times the cluster-robust variance of a task's mean.
    """
    if clusters is None or len(set(clusters)) < 2:
        return None
    tasks, seeds = table.shape
    _, of_task = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(of_task, table.mean(1) - table.mean())
    count = len(sums)
    return float(seeds / tasks * count / (count - 1) * (sums**2).sum()), count - 1.0


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
    between = mean_of([e.value for e in known])
    within = float(np.sqrt(np.mean([e.error**2 for e in known])))
    if not np.isfinite(within):
        return between
    variance = within**2 + between.error**2
    below = within**4 / min(e.freedom for e in known) + between.error**4 / between.freedom
    freedom = variance**2 / below if below else np.inf
    return Estimate(between.value, float(np.sqrt(variance)), freedom)


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
