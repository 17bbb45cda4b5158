"""The extra family: measures that others use for the same questions, on a sample of tokens.

RSA, SVCCA and RBF CKA compare two models; intrinsic dimension, effective dimension and isotropy
describe one, and their rows say in `direction` which.
"""

from collections.abc import Callable

import numpy as np

from realign.artifacts.command import Job
from realign.engine.progress import follow
from realign.hrsa.groups import Groups
from realign.hrsa.kernel_sums import CkaSums, sums_of_grams
from realign.hrsa.opening import Opened, open_pair
from realign.hrsa.reading import Array, read_all
from realign.study.hrsa import ExtraJob

NEAREST_RATIOS = 0.9  # share of the ratios of neighbour distances that TwoNN keeps, as its authors do


def run(job: Job[ExtraJob]) -> None:
    """The command: two files of states to rows."""
    with open_pair(job.input("left"), job.input("right"), job.settings) as pair:
        measure(pair, job.settings)
        pair.rows.write(job.output("measures"))


def measure(pair: Opened, settings: ExtraJob) -> None:
    """All extra measures of corresponding layers, added to the pair's rows."""
    groups, rows = pair.groups, pair.rows
    same = pair.left.layers == pair.right.layers
    final = pair.left.layers - 1, pair.right.layers - 1
    layers = [(i, i) for i in range(pair.left.layers)] if same else [final]
    for layer in follow(layers, "extra", unit="layers"):
        x = read_all(pair.left, layer[0]).astype(np.float64)
        y = read_all(pair.right, layer[1]).astype(np.float64)
        near = [squared_distances(v) for v in (x, y)]
        rows.add_jackknifed("rsa", "spearman", rsa(near[0], near[1], groups), layer, (-1, 1))
        correlations = canonical_correlations(x, y, settings.variance)
        rows.add("svcca", "mean", float(correlations.mean()) if len(correlations) else 0.0, layer)
        if settings.rbf is not None:
            similarity = rbf_cka(near[0], near[1], settings.rbf, groups)
            rows.add_jackknifed("cka_rbf", "value", similarity, layer, (0, 1))
        for side, values, distances in (("left", x, near[0]), ("right", y, near[1])):
            for name, describe in DESCRIPTIONS.items():
                with_each_left_out = _left_out(describe, values, distances, groups)
                rows.add_jackknifed(name, "value", with_each_left_out, layer, direction=side)


def _left_out(describe: Callable[[Array, Array], float], x: Array, near: Array, groups: Groups) -> Array:
    """A description of one model, whole and without each group."""
    values = [describe(x, near)]
    for group in range(groups.count):
        keep = groups.of_row != group
        pairs = near[keep][:, keep] if describe is intrinsic_dimension else near
        values.append(describe(x[keep], pairs))
    return np.array(values)


def squared_distances(x: Array) -> Array:
    """Squared Euclidean distances between all rows."""
    x = x - x.mean(0)
    squares = (x * x).sum(1)
    near = squares[:, None] + squares - 2 * (x @ x.T)
    np.fill_diagonal(near, 0)
    return np.maximum(near, 0)


# --- Two models -----------------------------------------------------------------------------------


def rsa(left: Array, right: Array, groups: Groups) -> Array:
    """Spearman's correlation of the two models' distances, with each group left out.

    Ranks are those of the whole sample; leaving a group out leaves out its distances.
    """
    upper = np.triu_indices(len(left), 1)
    a, b = (average_ranks(near[upper]) for near in (left, right))
    first, second = groups.of_row[upper[0]], groups.of_row[upper[1]]
    pairs = first * groups.count + second
    weights = (np.ones_like(a), a, b, a * a, b * b, a * b)
    sums = np.stack([np.bincount(pairs, w, minlength=groups.count**2) for w in weights])
    sums = sums.reshape(len(weights), groups.count, groups.count)
    return _pearson_of_sums(_without_groups(sums))


def average_ranks(values: Array) -> Array:
    """Ranks from 0, equal values sharing their mean rank, around a mean of 0."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(values)])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (counts - 1) / 2, counts)
    return ranks - (len(values) - 1) / 2


def _without_groups(sums: Array) -> Array:
    """From sums over pairs of groups (last two axes): the whole, then without each group."""
    whole = sums.sum((-2, -1))
    touching = sums.sum(-1) + sums.sum(-2) - np.diagonal(sums, axis1=-2, axis2=-1)
    return np.concatenate([whole[..., None], whole[..., None] - touching], -1)


def _pearson_of_sums(sums: Array) -> Array:
    n, a, b, aa, bb, ab = sums
    spread = np.sqrt(np.maximum(aa - a * a / n, 0) * np.maximum(bb - b * b / n, 0))
    return np.clip(np.divide(ab - a * b / n, spread, out=np.zeros_like(spread), where=spread > 0), -1, 1)


def canonical_correlations(x: Array, y: Array, variance: float) -> Array:
    """Correlations of the best matched directions of the two models' main components (SVCCA)."""
    left, right = (_main_scores(v, variance) for v in (x, y))
    return np.clip(np.linalg.svd(left.T @ right, compute_uv=False), 0, 1)


def _main_scores(x: Array, variance: float) -> Array:
    """Left singular vectors of the components that carry so much of the variance."""
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    energy = np.cumsum(s**2)
    real = s > (s[0] if len(s) else 0) * 1e-10
    if not real.any():
        return u[:, :0]
    count = int(np.searchsorted(energy, variance * energy[-1] * (1 - 1e-12))) + 1
    return u[:, : min(count, int(real.sum()))]


def rbf_cka(left: Array, right: Array, width: float, groups: Groups) -> Array:
    """CKA with Gaussian kernels, with each group left out; widths are those of the whole sample."""
    kernels = [_gaussian(near, width) for near in (left, right)]
    of_group = np.eye(groups.count)[groups.of_row]
    rows = [(k @ of_group)[None] for k in kernels]
    pairs = [
        (of_group.T @ (a * b) @ of_group)[..., None]
        for a, b in ((kernels[0], kernels[1]), (kernels[0], kernels[0]), (kernels[1], kernels[1]))
    ]
    diagonals = [np.ones((1, groups.tokens))] * 2
    sums = sums_of_grams(groups, groups.of_row, pairs[0][..., None], pairs[1:], rows, diagonals)
    still = [np.array([not near.any()]) for near in (left, right)]
    return CkaSums(*sums, *still).cka()[:, 0, 0]


def _gaussian(near: Array, width: float) -> Array:
    median = np.median(near[np.triu_indices(len(near), 1)])
    return np.exp(-near / (2 * width**2 * median)) if median > 0 else np.ones_like(near)


# --- One model ------------------------------------------------------------------------------------


def intrinsic_dimension(_: Array, near: Array) -> float:
    """TwoNN (Facco et al. 2017): how fast the second neighbour falls behind the first.

    Tokens with an equal twin say nothing of it and are left out; NaN where nothing is left.
    """
    far = near + np.diag(np.full(len(near), np.inf))
    two = np.sqrt(np.partition(far, 1, axis=1)[:, :2])
    two = two[two[:, 0] > 0]
    ratios = np.sort(np.log(two[:, 1] / two[:, 0]))
    kept = ratios[: int(len(ratios) * NEAREST_RATIOS)]
    # the maximum-likelihood estimate of a Pareto law, of which the largest values are not seen
    exposure = kept.sum() + (len(ratios) - len(kept)) * (kept[-1] if len(kept) else 0)
    return float(len(kept) / exposure) if exposure > 0 else float("nan")


def effective_dimension(x: Array, _: Array) -> float:
    """Participation ratio of the variances: as many directions of equal variance would give it."""
    x = x - x.mean(0)
    gram = x.T @ x if x.shape[1] <= len(x) else x @ x.T
    squares = (gram * gram).sum()
    return float(np.trace(gram) ** 2 / squares) if squares > 0 else 0.0


def mean_cosine(x: Array, _: Array) -> float:
    """The mean cosine of two different tokens: 0 when directions are spread evenly, near 1 in a cone."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    unit = x / np.where(lengths > 0, lengths, 1)
    n, total = len(x), unit.sum(0)
    return float((total @ total - (unit * unit).sum()) / (n * (n - 1)))


def isotropy(x: Array, _: Array) -> float:
    """IsoScore's idea without its rotation: how evenly variance fills the width, 0 to 1."""
    width = min(x.shape[1], len(x) - 1)
    return float((effective_dimension(x, x) - 1) / (width - 1)) if width > 1 else 1.0


DESCRIPTIONS: dict[str, Callable[[Array, Array], float]] = {
    "intrinsic_dimension": intrinsic_dimension,
    "effective_dimension": effective_dimension,
    "mean_cosine": mean_cosine,
    "isotropy": isotropy,
}
