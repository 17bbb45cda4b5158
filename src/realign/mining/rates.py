"""How often mined negatives are answers, from a judge that errs.

A judge that finds a share se of the answers and clears a share sp of the others calls a share

    q = p se + (1 − p)(1 − sp)

of the negatives answers, where p of them are. Rogan and Gladen (1978) turn that round, with se and sp
from labels that are known:

    p = (q + sp − 1) / (se + sp − 1)

The interval is Lang and Reiczigel's (2014), which holds its level for small samples and rates near 0. With
n, n₁, n₀ judged negatives, known answers and known others, z the normal quantile, and

    q' = (n q + z²/2) / (n + z²),   se' = (n₁ se + 1) / (n₁ + 2),   sp' = (n₀ sp + 1) / (n₀ + 2),
    n' = n + z²,   n₁' = n₁ + 2,   n₀' = n₀ + 2,   p' = (q' + sp' − 1) / (se' + sp' − 1),
    d  = 2 z² (p' se'(1 − se')/n₁' − (1 − p') sp'(1 − sp')/n₀'),

it is p' + d ± z √(q'(1 − q')/n' + p'² se'(1 − se')/n₁' + (1 − p')² sp'(1 − sp')/n₀') / (se' + sp' − 1),
cut to [0, 1]. Without known labels the judge is taken at its word, with Wilson's interval.
"""

from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Reliability:
    """A judge's answers about labels that are known."""

    found: int  # answers that it calls answers
    answers: int
    cleared: int  # others that it calls none
    others: int

    @property
    def sensitivity(self) -> float:
        """The share of the answers that it finds, drawn towards a half as two more labels would."""
        return (self.found + 1) / (self.answers + 2)

    @property
    def specificity(self) -> float:
        """The share of the others that it clears, likewise."""
        return (self.cleared + 1) / (self.others + 2)


@dataclass(frozen=True)
class Rate:
    """A share with its interval, and what the judge said of so many."""

    value: float
    low: float
    high: float
    judged: float  # the share that the judge calls answers
    count: int


def rate(called: int, count: int, level: float, reliability: Reliability | None = None) -> Rate:
    """The rate among `count` judged negatives of which `called` are called answers."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    q, n = (called + z * z / 2) / (count + z * z), count + z * z
    judged = called / count if count else float("nan")
    if reliability is None:
        half = z * (q * (1 - q) / n) ** 0.5
        return Rate(judged, max(0.0, q - half), min(1.0, q + half), judged, count)
    r = reliability
    se, sp = r.sensitivity, r.specificity
    better = se + sp - 1
    if better <= 0:  # no better than chance: its labels say nothing
        return Rate(float("nan"), 0.0, 1.0, judged, count)
    p = (q + sp - 1) / better
    se_error, sp_error = se * (1 - se) / (r.answers + 2), sp * (1 - sp) / (r.others + 2)
    shift = 2 * z * z * (p * se_error - (1 - p) * sp_error)
    half = z * (q * (1 - q) / n + p * p * se_error + (1 - p) ** 2 * sp_error) ** 0.5 / better
    raw_se = r.found / r.answers if r.answers else se
    raw_sp = r.cleared / r.others if r.others else sp
    value = (judged + raw_sp - 1) / (raw_se + raw_sp - 1) if raw_se + raw_sp > 1 else p
    low, high = (min(1.0, max(0.0, p + shift + side * half)) for side in (-1, 1))
    return Rate(min(1.0, max(0.0, value)), low, high, judged, count)
