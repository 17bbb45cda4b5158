"""Orthogonal Procrustes: the rotation that best carries one model's states onto the other's.

Both sides are centred on the means of the texts that the rotation is fitted on, and it is judged
on texts that it has not seen, centred on those same means. Everything comes from sums by group:
fitting without a group and judging on it is the held-out residual and the jackknife at once.

For centred X (n × p) and Y (n × q) and the decomposition XᵀY = U S Vᵀ, the rotation O = U Vᵀ minimises
|XO − Y|² = |X|² + |Y|² − 2 tr S (Schönemann 1966), and the angle between the two configurations is
arccos(tr S / (|X| |Y|)). For g groups of texts, sums by group have g as their first axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import digamma

from realign.hrsa.centred import Layer
from realign.hrsa.groups import Groups, first_order
from realign.hrsa.reading import Array

LEAST_COMMON = 4.0  # Σ A B of two halves that may share nothing: four of its standard deviations


@dataclass
class LayerSums:
    """One layer's sums by group (first axis), of values that are centred on the whole sample."""

    counts: Array  # tokens: (g,)
    x: Array  # Σ x: (g, p)
    y: Array  # Σ y: (g, q)
    xx: Array  # Σ |x|²: (g,)
    yy: Array  # Σ |y|²: (g,)
    xy: Array  # Σ x yᵀ: (g, p, q)
    total: Array  # the same of all groups: (p, q)


@dataclass(frozen=True)
class Fit:
    """A rotation, what it was centred on, and how well it fits what it was fitted on."""

    rotation: Array  # O = U Vᵀ: (p, q)
    factors: tuple[Array, Array, Array]  # U, the diagonal of S, Vᵀ
    mean_x: Array  # (p,)
    mean_y: Array  # (q,)
    nuclear: float  # tr S, the nuclear norm of XᵀY
    xx: float  # |X|²
    yy: float  # |Y|²
    error: float  # singular values that are no larger may be rounding alone

    @property
    def rank(self) -> int:
        """How many directions the sample fixes."""
        return int((self.factors[1] > self.error).sum())

    @property
    def angle(self) -> float:
        """The angle between the two configurations, 0 … π/2, whatever their scales."""
        length = np.sqrt(self.xx * self.yy)
        if length <= 0:
            return float(np.pi / 2)
        # sin²(θ/2) = (1 − cos θ)/2 with cos θ = tr S / (|X| |Y|)
        # an arc cosine would round what is left of a small angle once more
        return float(2 * np.arcsin(np.sqrt(np.clip((length - self.nuclear) / (2 * length), 0, 0.5))))

    @property
    def residual(self) -> float:
        """|XO − Y|² / |Y|² = (|X|² + |Y|² − 2 tr S) / |Y|² on what the rotation was fitted on."""
        return float(max(self.xx + self.yy - 2 * self.nuclear, 0) / self.yy) if self.yy > 0 else 0.0


def layer_sums(left: Layer, right: Layer, groups: Groups) -> LayerSums:
    """Sums of corresponding layers of both models.

    In float64: what is left between two like models, and directions that are small beside massive
    activations, are lost in single products, and one product a layer is cheap beside the fits.
    """
    xy = np.zeros((groups.count, left.side.width, right.side.width))
    for block in left.side.blocks:
        xy[block.group] += left.exact(block.rows).T @ right.exact(block.rows)
    counts, (xx, yy) = groups.sizes.astype(np.float64), (side.squares.sum(1) for side in (left, right))
    return LayerSums(counts, left.sums, right.sums, xx, yy, xy, xy.sum(0))


def fit(sums: LayerSums, lost: Sequence[int] | Array = ()) -> Fit:
    """The best rotation for all groups but those that are lost."""
    lost = np.asarray(lost, int)

    def kept(by_group: Array, total: Array | None = None) -> Array:
        # those that stay are many, and may be gigabytes
        return np.asarray((by_group.sum(0) if total is None else total) - by_group[lost].sum(0))

    n, x, y = kept(sums.counts), kept(sums.x), kept(sums.y)
    # Σ (x − x̄)(y − ȳ)ᵀ = Σ x yᵀ − (Σ x)(Σ y)ᵀ/n, over the tokens that are kept; v is Vᵀ
    u, s, v = np.linalg.svd(kept(sums.xy, sums.total) - np.outer(x, y) / n)
    xx, yy = kept(sums.xx) - x @ x / n, kept(sums.yy) - y @ y / n
    # what rounding leaves in the sums of products of so long vectors
    error = len(s) * np.finfo(np.float64).eps * np.sqrt(np.maximum(xx * yy, 0))
    return Fit(u @ v, (u, s, v), x / n, y / n, float(s.sum()), float(xx), float(yy), float(error))


def misfit(sums: LayerSums, fitted: Fit, groups: Array) -> tuple[float, float]:
    """|XO − Y|² and |Y|² of some groups, centred on the means that the rotation was fitted with."""
    n = sums.counts[groups].sum()
    x, y = sums.x[groups].sum(0), sums.y[groups].sum(0)
    mx, my = fitted.mean_x, fitted.mean_y
    # Σ |x − m|² = Σ |x|² − 2 m·Σ x + n |m|², and |XO − Y|² = |X|² + |Y|² − 2 tr(Oᵀ XᵀY)
    xx = sums.xx[groups].sum() - 2 * x @ mx + n * mx @ mx
    yy = sums.yy[groups].sum() - 2 * y @ my + n * my @ my
    xy = sums.xy[groups].sum(0) - np.outer(mx, y) - np.outer(x, my) + n * np.outer(mx, my)
    return max(float(xx + yy - 2 * np.vdot(fitted.rotation, xy)), 0.0), float(yy)


def halves(sums: LayerSums) -> tuple[Fit, Fit]:
    """Rotations fitted without every second group, from the first on, and from the second on."""
    everyone = np.arange(len(sums.counts))
    return fit(sums, everyone[::2]), fit(sums, everyone[1::2])


def held_out(sums: LayerSums, folds: Sequence[Array]) -> Array:
    """|XO − Y|² and |Y|² of each fold under the rotation fitted on all other folds: (folds, 2)."""
    return np.array([misfit(sums, fit(sums, fold), fold) for fold in folds])


def uncentred_residual(sums: LayerSums, fitted: Fit, shift_x: Array, shift_y: Array) -> float:
    """|XO − Y|² / |Y|² of the raw values, though the rotation was fitted on centred ones (as published)."""
    n = sums.counts.sum()
    x, y = sums.x.sum(0), sums.y.sum(0)
    xx = sums.xx.sum() + 2 * x @ shift_x + n * shift_x @ shift_x
    yy = sums.yy.sum() + 2 * y @ shift_y + n * shift_y @ shift_y
    xy = sums.total + np.outer(shift_x, y) + np.outer(x, shift_y) + n * np.outer(shift_x, shift_y)
    return float((xx + yy - 2 * np.vdot(fitted.rotation, xy)) / yy)


def cosines(x: Array, y: Array) -> Array:
    """The cosine of each row of x with the same row of y; 0 where one of them is 0."""
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.divide(np.einsum("ij,ij->i", x, y), lengths, out=np.zeros(len(x)), where=lengths > 0)


# --- What kind of rotation it is ------------------------------------------------------------------


def inverse_row_entropies(rotation: Array) -> Array:
    """1 − H(p)/log D of each row's squared entries: 1 for a signed permutation, low for a smear.

    Their mean is the inverse row entropy. It tells a permutation from a smear, but not an identity
    from a permutation: `shares` does.
    """
    p = rotation.astype(np.float64) ** 2
    p /= p.sum(1, keepdims=True)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return 1 + (p * logs).sum(1) / np.log(p.shape[1])


def entropy_without_each(sums: LayerSums, whole: Fit, groups: Groups) -> Array:
    """The mean inverse row entropy, whole and without each group, to first order in what a group adds.

    NaN without each where two directions or more are not fixed at all.
    """
    rotation = whole.rotation
    value = inverse_row_entropies(rotation).mean()
    width = len(rotation)
    if whole.rank < width - 1:
        return np.concatenate([[value], np.full(groups.count, np.nan)])
    logs = np.log(rotation**2, out=np.zeros_like(rotation), where=rotation != 0)
    added = _added(whole, 2 * rotation * (logs + 1) / (width * np.log(width)), sums.xy)
    kept = np.maximum(1 - groups.shares, 1 / groups.texts)  # a lone group has no interval anyway
    return first_order(np.concatenate([[value], value - added / kept]))


def _added(fitted: Fit, slope: Array, by_group: Array) -> Array:
    """What each group adds to a function of the rotation that has this derivative, to first order.

    Fitting anew without a group lets directions jump that the sample hardly fixes; one such jump
    makes a jackknife's variance several times too large. The derivative is known: a change K of
    UᵀMV turns the rotation by (K − Kᵀ)/(sᵢ + sⱼ), so a group adds an inner product with its sums.
    """
    u, s, v = fitted.factors
    slope = u.T @ slope @ v.T
    stretch = np.add.outer(s, s)
    weights = u @ np.divide(slope - slope.T, stretch, out=np.zeros_like(slope), where=stretch > 0) @ v
    return np.array([np.vdot(weights, of_group) for of_group in by_group])


def basis_kept(sums: LayerSums, fitted: tuple[Fit, Fit], groups: Groups) -> tuple[Array, float]:
    """The share of the rotation's energy that stays on its own dimension, whole and without each group.

    Every sample smears its rotation, the more so the fewer texts it has. Two rotations A and B of different
    texts are smeared independently of one another, so products of their entries are not, on average:

        Σᵢ Aᵢᵢ Bᵢᵢ / Σᵢⱼ Aᵢⱼ Bᵢⱼ,  the sum above over dimensions that keep their sign,

    which has no room for the sample's size. The second number is how far the two agree, Σ A B / D. Of two
    rotations drawn evenly Σ A B = tr(AᵀB) has mean 0 and variance 1 at any D; where it is not well
    above that, the ratio has no meaning and is NaN.
    """
    a, b = (half.rotation for half in fitted)
    own = np.diag(a) * np.diag(b) * (np.diag(a) + np.diag(b) > 0)
    common = np.vdot(a, b)
    width, without = len(a), np.full(groups.count, np.nan)
    if common < LEAST_COMMON:
        return np.concatenate([[np.nan], without]), float(common / width)
    value = own.sum() / common
    if min(half.rank for half in fitted) >= width - 1:
        for k, (half, other) in enumerate((fitted, fitted[::-1])):
            mine = slice(1 - k, None, 2)  # the groups that this half was fitted on
            slope = (np.diag(np.diag(other.rotation) * (own != 0)) - value * other.rotation) / common
            shares = groups.shares[mine] / groups.shares[mine].sum()
            without[mine] = value - _added(half, slope, sums.xy[mine]) / (1 - shares)
    return first_order(np.concatenate([[value], without])), float(common / width)


def haar_inverse_row_entropy(width: int) -> float:
    """What a rotation drawn evenly from all of them has on average: the floor of the measure.

    A squared entry of a random unit vector follows Beta(1/2, (D − 1)/2), so that E[H] = ψ(D/2 + 1) − ψ(3/2).
    """
    return float(1 - (digamma(width / 2 + 1) - digamma(1.5)) / np.log(width))


def shares(rotation: Array) -> dict[str, float]:
    """How the rotation's energy (its squared entries over D) divides; the four shares sum to 1.

    `identity`: positive entries on the diagonal; `sign`: negative ones there; `permutation`: off
    the diagonal, on the one-to-one matching of dimensions that carries most; `smear`: the rest.
    """
    energy = rotation.astype(np.float64) ** 2 / len(rotation)
    rows, columns = linear_sum_assignment(energy, maximize=True)
    off = rows != columns
    diagonal, on = np.diag(rotation), np.diag(energy)
    found = {
        "identity_share": float(on[diagonal > 0].sum()),
        "sign_share": float(on[diagonal < 0].sum()),
        "permutation_share": float(energy[rows[off], columns[off]].sum()),
    }
    return found | {"smear_share": 1 - sum(found.values())}
