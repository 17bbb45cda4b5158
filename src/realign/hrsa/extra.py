"""The extra family: measures that others use for the same questions, on a sample of tokens.

RSA, RBF CKA, SVCCA and PWCCA compare two models; intrinsic dimension, effective dimension, mean
cosine and isotropy describe one, and their rows say in `direction` which. All but the two CCAs come
from sums over pairs of tokens, so that leaving texts out costs little.
"""

from collections.abc import Callable

import numpy as np

import realign.measures.extra  # noqa: F401 (declares what its rows hold)
from realign.artifacts.command import Job
from realign.engine.progress import follow
from realign.hrsa.groups import Groups, first_order
from realign.hrsa.kernel_sums import CkaSums, KernelSums, sums_of_grams
from realign.hrsa.opening import Opened, open_pair
from realign.hrsa.reading import Array, read_all
from realign.measures.registry import DECLARED
from realign.seeds import derive_seed
from realign.study.hrsa import ExtraJob

TWINS = 1e-12  # rows whose squared distance is below this share of their lengths are equal
NEAREST_RATIOS = 0.9  # share of the ratios of neighbour distances that TwoNN keeps, as its authors do

# Measures for which no sums by group are known: each is computed anew without each group of texts.
# The place for one of your own, once it is declared in `realign.measures.extra`.
DESCRIPTIONS: dict[str, Callable[[Array, Array], float]] = {}  # of one model's states and squared distances
SIMILARITIES: dict[str, Callable[[Array, Array], float]] = {}  # of two models' states


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
    most = max(1, int(settings.components * groups.tokens))
    # The two CCAs have no debiased form: what is found where no token stands for itself is their floor.
    order = np.random.default_rng(derive_seed(settings.seed, "hrsa", "extra", "shuffled")).permutation(
        groups.tokens
    )
    for layer in follow(layers, "extra", unit="layers"):
        x = read_all(pair.left, layer[0]).astype(np.float64)
        y = read_all(pair.right, layer[1]).astype(np.float64)
        near = [squared_distances(v) for v in (x, y)]
        rows.add_jackknifed("rsa", "spearman", rsa(near[0], near[1], groups), layer)
        (left, loadings), (right, _) = (main_components(v, settings.variance, most) for v in (x, y))
        for statistic, matched in (("mean", right), ("shuffled", right[order])):
            for name, value in canonical_similarities(left, loadings, matched).items():
                rows.add(name, statistic, value, layer)
        if settings.rbf is not None:
            for name, similarity in rbf_cka(near[0], near[1], settings.rbf, groups).items():
                rows.add_jackknifed(name, "value", similarity, layer)
        for name, compare in SIMILARITIES.items():
            rows.add_jackknifed(name, DECLARED[name].statistic, _without_each(compare, x, y, groups), layer)
        dimensions = effective_dimensions(near[0], near[1], groups)
        for side, values, distances, dimension in zip(
            ("left", "right"), (x, y), near, dimensions, strict=True
        ):
            described = {
                "intrinsic_dimension": intrinsic_dimension(distances, groups),
                "effective_dimension": dimension,
                "isotropy": isotropy(dimension, values.shape[1], groups),
                "mean_cosine": mean_cosine(values, groups),
            }
            for name, describe in DESCRIPTIONS.items():
                described[name] = _without_each(describe, values, distances, groups, pairs=True)
            for name, of_side in described.items():
                top = values.shape[1] if name == "effective_dimension" else np.inf
                rows.add_jackknifed(name, "value", of_side, layer, most=top, direction=side)


def _without_each(
    of: Callable[[Array, Array], float], x: Array, other: Array, groups: Groups, pairs: bool = False
) -> Array:
    """A function of two arrays by token, the second perhaps by `pairs` of tokens, without each group."""
    stays = [~np.isin(groups.of_row, lost) for lost in groups.lost]
    return np.array([of(x[stay], other[stay][:, stay] if pairs else other[stay]) for stay in stays])


def squared_distances(x: Array) -> Array:
    """Squared Euclidean distances between all rows: |x_i|² + |x_j|² − 2 x_i·x_j, (tokens, tokens)."""
    x = x - x.mean(0)
    products = x @ x.T
    lengths = products.diagonal()[:, None] + products.diagonal()
    near = lengths - 2 * products
    near[near < TWINS * lengths] = 0  # what rounding leaves between equal rows
    np.fill_diagonal(near, 0)
    return near


# --- Two models -----------------------------------------------------------------------------------


def rsa(left: Array, right: Array, groups: Groups) -> Array:
    """Spearman's correlation of the two models' distances (Kriegeskorte et al. 2008), with groups left out.

    Ranks are those of the whole sample; leaving a group out leaves out its distances.
    """
    upper = np.triu_indices(len(left), 1)
    a, b = (average_ranks(near[upper]) for near in (left, right))
    first, second = groups.of_row[upper[0]], groups.of_row[upper[1]]
    pairs = first * groups.count + second
    weights = (np.ones_like(a), a, b, a * a, b * b, a * b)
    sums = np.stack([np.bincount(pairs, w, minlength=groups.count**2) for w in weights], axis=-1)
    return _pearson_of_sums(groups.leave_out_pairs(sums.reshape(groups.count, groups.count, len(weights))))


def average_ranks(values: Array) -> Array:
    """Ranks from 0, equal values sharing their mean rank, around a mean of 0."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(values)])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (counts - 1) / 2, counts)
    return ranks - (len(values) - 1) / 2


def _pearson_of_sums(sums: Array) -> Array:
    # r = (Σab − Σa Σb/n) / √((Σa² − (Σa)²/n)(Σb² − (Σb)²/n)), over the pairs of tokens that remain
    n, a, b, aa, bb, ab = sums.T
    n = np.maximum(n, 1)  # without a lone group there are no pairs
    spread = np.sqrt(np.maximum(aa - a * a / n, 0) * np.maximum(bb - b * b / n, 0))
    return np.clip(np.divide(ab - a * b / n, spread, out=np.zeros_like(spread), where=spread > 0), -1, 1)


def canonical_similarities(left: Array, loadings: Array, right: Array) -> dict[str, float]:
    """SVCCA and PWCCA: how well directions of the two models' main components can be matched.

    With orthonormal bases U_x and U_y of their main components (tokens × components), the correlations ρ
    are the singular values of U_xᵀU_y. SVCCA (Raghu et al. 2017) is their plain mean. PWCCA (Morcos et
    al. 2018) is Σ α_i ρ_i / Σ α_i, where α_i = Σ_j |⟨h_i, x_j⟩| over the dimensions x_j of the left model
    says how much of it the direction h_i carries.
    """
    if not left.shape[1] or not right.shape[1]:
        return {"svcca": 0.0, "pwcca": 0.0}
    u, correlations, _ = np.linalg.svd(left.T @ right, full_matrices=False)
    correlations = np.clip(correlations, 0, 1)
    weights = np.abs(u.T @ loadings).sum(1)
    return {"svcca": float(correlations.mean()), "pwcca": float(correlations @ weights / weights.sum())}


def main_components(x: Array, variance: float, most: int) -> tuple[Array, Array]:
    """The components that carry so much of the variance, `most` at most: vectors over tokens, and loadings.

    With nearly as many components as there are tokens any two models can be matched.
    """
    u, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
    energy = np.cumsum(s**2)
    real = int((s > (s[0] if len(s) else 0) * 1e-10).sum())
    count = int(np.searchsorted(energy, variance * energy[-1] * (1 - 1e-12))) + 1 if real else 0
    kept = slice(0, min(count, real, most))
    return u[:, kept], s[kept, None] * v[kept]


def rbf_cka(left: Array, right: Array, width: float, groups: Groups) -> dict[str, Array]:
    """CKA with Gaussian kernels, biased and debiased, with groups left out; widths are the whole sample's.

    K_ij = exp(−|x_i − x_j|² / (2σ²)), σ being `width` times the median distance (Kornblith et al. 2019).
    """
    sums = _kernel_sums(_gaussian(left, width), _gaussian(right, width), groups)
    still = [np.array([not near.any()]) for near in (left, right)]
    cka = CkaSums(*sums, *still)
    return {"cka_rbf": cka.cka()[:, 0, 0], "cka_rbf_debiased": cka.cka(debiased=True)[:, 0, 0]}


def _gaussian(near: Array, width: float) -> Array:
    median = np.median(near[np.triu_indices(len(near), 1)])
    return np.exp(-near / (2 * width**2 * median)) if median > 0 else np.ones_like(near)


def _kernel_sums(left: Array, right: Array, groups: Groups) -> tuple[KernelSums, KernelSums, KernelSums]:
    """The sums of two kernels with each other, of the left with itself, and of the right with itself."""
    order = np.argsort(groups.of_row, kind="stable")
    of_group = np.eye(groups.count)[groups.of_row]
    rows = [(k @ of_group)[None, order] for k in (left, right)]
    pairs = [
        (of_group.T @ (a * b) @ of_group)[..., None] for a, b in ((left, right), (left, left), (right, right))
    ]
    return sums_of_grams(groups, pairs[0][..., None], pairs[1:], rows)


# --- One model ------------------------------------------------------------------------------------


def intrinsic_dimension(near: Array, groups: Groups) -> Array:
    """TwoNN (Facco et al. 2017) with groups left out: how fast the second neighbour falls behind the first.

    Of equal tokens the first counts; NaN where fewer than three differ. A group is left out to first
    order: its own tokens go, and those that stay keep their neighbours, since looking for new ones
    counts a group twice and makes intervals up to 1.8 times too wide.
    """
    first = ~(np.tril(near == 0, -1).any(1))
    distinct, group = near[np.ix_(first, first)], groups.of_row[first]
    if len(distinct) < 3:
        return np.full(len(groups.lost), np.nan)
    np.fill_diagonal(distinct, np.inf)
    two = np.sqrt(np.partition(distinct, 1, axis=1)[:, :2])
    return first_order(np.array([_two_nearest_dimension(two[~np.isin(group, lost)]) for lost in groups.lost]))


def _two_nearest_dimension(two: Array) -> float:
    # log μ = log(r₂/r₁) of each token follows an exponential law of rate d, the dimension
    ratios = np.sort(np.log(two[:, 1] / two[:, 0]))
    kept = ratios[: int(len(ratios) * NEAREST_RATIOS)]
    # the maximum-likelihood estimate of a Pareto law, of which the largest values are not seen
    exposure = kept.sum() + (len(ratios) - len(kept)) * (kept[-1] if len(kept) else 0)
    return float(len(kept) / exposure) if exposure > 0 else float("nan")


def effective_dimensions(left: Array, right: Array, groups: Groups) -> tuple[Array, Array]:
    """Participation ratio of both models' variances: as many directions of equal variance would give it.

    It is (Σλ)²/Σλ² = (tr C)²/tr C² of the covariance C with eigenvalues λ, and both traces follow from the
    distances: a doubly centred matrix of squared distances is the Gram matrix, times minus two.
    """

    def ratio(sums: KernelSums) -> Array:
        squares, traces = sums.hsic()[:, 0], sums.totals[:, 0] / sums.tokens**2
        return np.divide(traces, squares, out=np.zeros_like(traces), where=squares > 0)

    _, one, other = _kernel_sums(left, right, groups)
    return ratio(one), ratio(other)


def isotropy(dimension: Array, width: int, groups: Groups) -> Array:
    """How evenly variance fills the width, 0 to 1: IsoScore's idea (Rudman et al. 2022) without its rotation.

    (dimension − 1) / (most − 1), with the effective dimension and the most that width and
    tokens allow. 0 too where nothing varies, 1 where the width leaves no choice.
    """
    most = np.minimum(width, groups.left_out - 1)
    return np.where(most > 1, np.maximum(dimension - 1, 0) / np.maximum(most - 1, 1), 1.0)


def mean_cosine(x: Array, groups: Groups) -> Array:
    """The mean cosine of two different tokens, with groups left out: 0 when directions are spread evenly.

    (|Σ u_i|² − Σ |u_i|²) / (n(n − 1)) of the unit vectors u of n tokens (Ethayarajh 2019).
    """
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    unit = x / np.where(lengths > 0, lengths, 1)
    of_group = np.eye(groups.count)[groups.of_row]
    totals, own = groups.leave_out(of_group.T @ unit), groups.leave_out(of_group.T @ (unit * unit).sum(1))
    n = groups.left_out
    return ((totals * totals).sum(1) - own) / np.maximum(n * (n - 1), 1)
