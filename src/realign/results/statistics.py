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


def crossed_mean(table: np.ndarray) -> Estimate:
    """The grand mean of a tasks × seeds table without gaps, tasks and seeds both random.

    The variance is (MS_tasks + MS_seeds - MS_rest) / (T S), never below its largest single source,
    with Satterthwaite's degrees of freedom.
    """
    table = np.asarray(table, float)
    tasks, seeds = table.shape
    if min(tasks, seeds) <= 1:
        return mean_of(table.ravel())
    grand = table.mean()
    rows, columns = table.mean(1) - grand, table.mean(0) - grand
    rest = table - grand - rows[:, None] - columns[None, :]
    free = np.array([tasks - 1, seeds - 1, (tasks - 1) * (seeds - 1)], float)
    square = np.array([seeds * (rows**2).sum(), tasks * (columns**2).sum(), (rest**2).sum()]) / free
    summed = square[0] + square[1] - square[2]
    largest = int(np.argmax(square[:2]))
    if summed <= square[largest]:
        variance, freedom = square[largest], free[largest]
    else:
        variance, freedom = summed, summed**2 / (square**2 / free).sum()
    return Estimate(float(grand), float(np.sqrt(variance / table.size)), float(freedom))


def from_interval(value: float, low: float, high: float) -> Estimate:
    """The estimate behind a published 95 % interval; unknown error where there is none."""
    if not np.isfinite(value):
        return UNKNOWN
    half = (high - low) / 2
    return Estimate(float(value), float(half / NORMAL_95) if np.isfinite(half) else np.inf)


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over seeds of estimates with errors of their own, which the seeds share (same texts).

    The texts' error does not shrink with more seeds; the seeds' own scatter is added to it.
    """
    known = [e for e in estimates if np.isfinite(e.value)]
    if len(known) < 2:
        return known[0] if known else UNKNOWN
    between = mean_of([e.value for e in known])
    within = float(np.sqrt(np.mean([e.error**2 for e in known])))
    if not np.isfinite(within):
        return between
    variance = within**2 + between.error**2
    freedom = variance**2 / (between.error**4 / between.freedom) if between.error else np.inf
    return Estimate(between.value, float(np.sqrt(variance)), freedom)


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
