"""Which models of a board can be told apart, and the ranks that this leaves to each.

A model's score is its mean over tasks. Two models are compared task by task. The types of tasks
(retrieval, STS, …) are what the benchmark chose, so they are fixed; within a type, families of tasks are
taken as drawn from more tasks of that type. A statement about one pair speaks of another draw of
tasks, not of these very tasks again.

All pairs are tested at once. The p-values are those of the largest |t| over all pairs when the signs of
the families' deviations are flipped at random (a wild bootstrap), stepped down over pairs, so that the
chance of one or more false separations on the whole board is at most the level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from realign.artifacts.command import UserError

FLIPS = 2000
PAIRS_AT_ONCE = 2_000_000  # pairs × flips held at once


@dataclass(frozen=True)
class Design:
    """How tasks weigh and belong together: T tasks, F families, H types."""

    weights: np.ndarray  # (T,), sums to 1
    family: np.ndarray  # (T,) → 0…F-1
    type_of_family: np.ndarray  # (F,) → 0…H-1

    @classmethod
    def of(cls, types: Sequence[str], families: Sequence[str]) -> "Design":
        """Tasks weigh alike; types with one family are joined, since one family shows no spread."""
        codes = pd.factorize(pd.Series(families))[0]
        of_type = pd.Series(list(types)).groupby(codes).first()
        counts = of_type.value_counts()
        joined = of_type.where(of_type.map(counts) > 1, "types with one family")
        if joined.nunique() > 1 and (joined == "types with one family").sum() == 1:
            largest = counts.index[0]
            joined = joined.where(joined != "types with one family", largest)
        return cls(np.full(len(codes), 1 / len(codes)), codes, pd.factorize(joined)[0])


@dataclass(frozen=True)
class Differences:
    """All pairs of models: M models, P = M (M − 1) / 2 pairs, the first of each pair scoring higher."""

    first: np.ndarray  # (P,)
    second: np.ndarray  # (P,)
    value: np.ndarray  # (P,) points of 100
    error: np.ndarray  # (P,) standard error
    freedom: np.ndarray  # (P,) Satterthwaite's degrees of freedom
    p: np.ndarray  # (P,) adjusted over all pairs


def deviations(scores: np.ndarray, design: Design) -> np.ndarray:
    """What each family adds to a model's score beyond its type's mean: (M, F).

    u_mf = Σ_{t in f} w_t (x_mt − x̄_mh), scaled by F_h / (F_h − 1): the leave-one-family-out jackknife
    for families of equal size, and on the safe side of it for unequal ones.
    """
    families, types = len(design.type_of_family), design.type_of_family.max() + 1
    of_task = design.type_of_family[design.family]
    centred = np.empty_like(scores)
    for h in range(types):
        own = of_task == h
        mean = np.average(scores[:, own], axis=1, weights=design.weights[own])
        centred[:, own] = scores[:, own] - mean[:, None]
    sums = np.zeros((len(scores), families))
    np.add.at(sums.T, design.family, (centred * design.weights).T)
    share = np.array([_share(design, f) for f in range(families)])  # of its type's weight
    return sums / (1 - share)


def _share(design: Design, family: int) -> float:
    own_type = design.type_of_family[design.family] == design.type_of_family[family]
    return float(design.weights[design.family == family].sum() / design.weights[own_type].sum())


def compare_all(scores: np.ndarray, design: Design, flips: int = FLIPS, seed: int = 0) -> Differences:
    """Every pair of models, with p-values adjusted over all pairs; `scores` is (M, T)."""
    families = np.bincount(design.type_of_family)
    if (families < 2).any():
        raise UserError("one family of tasks shows no spread: compare models on more tasks")
    means = scores @ design.weights
    order = np.argsort(-means, kind="stable")
    upper = np.triu_indices(len(scores), 1)
    first, second = order[upper[0]], order[upper[1]]
    parts = deviations(scores, design)
    value = means[first] - means[second]
    error, freedom = _errors(parts[first] - parts[second], design)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, value / error, np.where(value > 0, np.inf, 0.0))
    p = _step_down(parts, first, second, t, error, design, flips, seed)
    return Differences(first, second, value, error, freedom, p)


def _errors(parts: np.ndarray, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors and degrees of freedom from families' deviations, (…, F) → (…)."""
    families = np.bincount(design.type_of_family)
    by_type = np.stack(
        [(n - 1) / n * (parts[..., design.type_of_family == h] ** 2).sum(-1) for h, n in enumerate(families)],
        axis=-1,
    )
    variance = by_type.sum(-1)
    below = (by_type**2 / (families - 1)).sum(-1)
    freedom = np.divide(variance**2, below, out=np.full_like(variance, np.inf), where=below > 0)
    return np.sqrt(variance), freedom


def _step_down(
    parts: np.ndarray, first: np.ndarray, second: np.ndarray, t: np.ndarray, error: np.ndarray,
    design: Design, flips: int, seed: int,
) -> np.ndarray:  # fmt: skip
    """Romano and Wolf's step-down p-values: each pair against the largest of those not larger than it."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], size=(flips, parts.shape[1]))  # (B, F)
    order = np.argsort(-t, kind="stable")
    exceeded = np.zeros(len(t))
    chunk = max(1, PAIRS_AT_ONCE // len(t))
    for start in range(0, flips, chunk):
        drawn = np.abs(_flipped(parts, first, second, signs[start : start + chunk], design))  # (b, P)
        largest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]  # over pairs not larger
        exceeded[order] += (largest >= t[order] - 1e-12).sum(0)
    p = np.empty(len(t))
    p[order] = np.maximum.accumulate((1 + exceeded[order]) / (1 + flips))
    return p


def _flipped(
    parts: np.ndarray, first: np.ndarray, second: np.ndarray, signs: np.ndarray, design: Design
) -> np.ndarray:
    """t of every pair when families' deviations have these signs: (B, P).

    The flipped mean of a type is taken out before its spread is measured, as it is for the data.
    """
    top = np.zeros((len(signs), len(parts)))
    square = np.zeros((len(signs), len(first)))
    for h, n in enumerate(np.bincount(design.type_of_family)):
        own = design.type_of_family == h
        flipped = signs[:, None, own] * parts[None, :, own]  # (B, M, F_h)
        mean = flipped.mean(-1)
        top += n * mean * np.sqrt((n - 1) / n)
        rest = flipped - mean[..., None]
        # Σ_f (r_af − r_bf)² = Σ r_a² + Σ r_b² − 2 Σ r_a r_b
        inner = np.einsum("bmf,bnf->bmn", rest, rest)
        own_square = np.einsum("bmm->bm", inner)
        cross = inner[:, first, second]
        square += n / (n - 1) * (own_square[:, first] + own_square[:, second] - 2 * cross) * (n - 1) / n
    difference = top[:, first] - top[:, second]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(difference / np.sqrt(np.maximum(square, 0)), nan=0.0, posinf=0.0, neginf=0.0)


def critical(freedom: np.ndarray, level: float) -> np.ndarray:
    """The half width of an interval in standard errors."""
    return stdtrit(np.maximum(freedom, 1.0), 0.5 + level / 2)


def rank_intervals(found: Differences, models: int, alpha: float) -> np.ndarray:
    """The ranks that separations leave to each model: (M, 2), 1 the best.

    With the chance 1 − alpha all true ranks lie within (Mohamad, Goeman and van Zwet, 2019): a model can't
    be better than as many as are separated above it, nor worse than as many as lie below.
    """
    apart = found.p < alpha
    better = np.bincount(found.second[apart], minlength=models)
    worse = np.bincount(found.first[apart], minlength=models)
    return np.stack([1 + better, models - worse], axis=1)


def ties(found: Differences, order: Sequence[int], alpha: float) -> list[list[int]]:
    """Longest runs of the ranking in which no two models can be told apart."""
    place = {model: i for i, model in enumerate(order)}
    apart = {
        (place[int(a)], place[int(b)])
        for a, b, p in zip(found.first, found.second, found.p, strict=True)
        if p < alpha
    }
    runs: list[list[int]] = []
    end = 0
    for start in range(len(order)):
        last = start
        while last + 1 < len(order) and not any((i, last + 1) in apart for i in range(start, last + 1)):
            last += 1
        if last > end or not runs:
            runs.append([int(order[i]) for i in range(start, last + 1)])
            end = last
    return runs
