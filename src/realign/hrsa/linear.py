"""The linear family: dimension-wise correlation, linear CKA and orthogonal Procrustes."""

import logging
from pathlib import Path

import h5py
import numpy as np

import realign.measures.linear  # noqa: F401 (declares what its rows hold)
from realign.artifacts.command import Job
from realign.artifacts.disk import check_room
from realign.engine.progress import follow
from realign.hrsa import procrustes
from realign.hrsa.centred import Layer, Side, both_sides
from realign.hrsa.cka import cka_sums
from realign.hrsa.correlation import Correlation, histogram, summary
from realign.hrsa.groups import Groups
from realign.hrsa.opening import Opened, open_pair
from realign.hrsa.products import NumpyProducts, Precision, Products
from realign.hrsa.reading import Array
from realign.hrsa.rows import Rows
from realign.hrsa.sinks import add_without_sinks
from realign.results.columns import PUBLISHED
from realign.study.hrsa import FEWEST_GROUPS, LinearJob

log = logging.getLogger(__name__)
Matrices = dict[str, Array]


def run(job: Job[LinearJob]) -> None:
    """The command: two files of states to rows and matrices."""
    with open_pair(job.near("left"), job.near("right"), job.settings) as pair:
        matrices = measure(pair, job.settings)
        pair.rows.write(job.output("measures"))
    write_matrices(job.output("matrices"), matrices)


def choose_products(precision: Precision = "float32") -> Products:
    """The GPU's products where there is a GPU, else the processor's; torch is loaded for a GPU only."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        import torch

        if torch.cuda.is_available():
            from realign.hrsa.torch_products import TorchProducts

            return TorchProducts(precision, torch.device("cuda"))
    return NumpyProducts(precision)


def measure(pair: Opened, settings: LinearJob, products: Products | None = None) -> Matrices:
    """All linear measures of a pair, added to its rows; the matrices worth keeping are returned."""
    products = products or choose_products(settings.precision)
    left, right = both_sides(pair.left, pair.right, pair.groups, products)
    correlation = Correlation(left, right, pair.groups) if left.width == right.width else None
    matrices = add_cka(pair.rows, left, right, pair.groups, products, correlation)
    add_without_sinks(pair.rows, left, right, pair.groups, products, settings.sink_length)
    if correlation is None:
        log.warning(
            "%s is %d wide and %s %d: without equal dimensions correlation and Procrustes are left out",
            left.name, left.width, right.name, right.width,
        )  # fmt: skip
        return matrices
    matrices |= add_correlation(pair.rows, correlation)
    matrices |= add_procrustes(pair.rows, left, right, pair.groups, settings)
    return matrices


def add_cka(
    rows: Rows,
    left: Side,
    right: Side,
    groups: Groups,
    products: Products,
    correlation: Correlation | None = None,
) -> Matrices:
    """CKA of all layer pairs, biased and debiased; correlation's sums are filled on the way."""
    if groups.count < FEWEST_GROUPS:
        log.warning(
            "the texts make %d groups: the debiased CKA takes %d, and %d for its interval",
            groups.count, FEWEST_GROUPS - 1, FEWEST_GROUPS,
        )  # fmt: skip
    sums = cka_sums(left, right, groups, products, correlation=correlation)
    matrices = {}
    for measure, debiased in (("cka", False), ("cka_debiased", True)):
        values = sums.cka(debiased)
        _add_matrix(rows, measure, "value", values)
        _add_means(rows, measure, values)
        matrices[measure] = values[0]
    return matrices


def add_correlation(rows: Rows, found: Correlation) -> Matrices:
    """Correlation of all layer pairs, and how the final layer's is spread over dimensions."""
    _add_matrix(rows, "correlation", "mean", found.means)
    _add_means(rows, "correlation", found.means)
    final = found.left.layers - 1, found.right.layers - 1
    for statistic, value in summary(found.final[0]).items():
        rows.add("correlation", statistic, value, final)
    for i, count in enumerate(histogram(found.final[0])):
        rows.add("correlation", "histogram", float(count), final, k=i)
    return {"correlation": found.means[0], "correlation_final": found.final[0]}


def _add_matrix(rows: Rows, measure: str, statistic: str, values: Array) -> None:
    for i, j in np.ndindex(values.shape[1:]):
        rows.add_jackknifed(measure, statistic, values[:, i, j], (i, j))


def _add_means(rows: Rows, measure: str, values: Array) -> None:
    """The mean over corresponding layers, of either preset."""
    if values.shape[1] != values.shape[2]:
        return  # of models of different depth no layers correspond
    same = np.diagonal(values, axis1=1, axis2=2)
    for preset, layers in rows.layers_of_means(same.shape[1]).items():
        mean = same[:, layers].mean(1)
        rows.add_jackknifed(measure, "mean_over_layers", mean, preset=preset)


def add_procrustes(rows: Rows, left: Side, right: Side, groups: Groups, settings: LinearJob) -> Matrices:
    """Rotations of corresponding layers, and everything asked of the final one."""
    layers = range(left.layers) if left.layers == right.layers else range(0)
    final = left.layers - 1, right.layers - 1
    pairs = [(i, i) for i in layers] or [final]
    ranks: list[int] = []
    matrices: Matrices = {}
    for pair in follow(pairs, "rotations", unit="layers"):
        if left.constant[pair[0]] or right.constant[pair[1]]:
            ranks.append(0)
            rows.add("procrustes", "rank", 0.0, pair)  # any rotation carries one point onto another
            continue
        x, y = Layer(left, pair[0]), Layer(right, pair[1])
        sums = procrustes.layer_sums(x, y, groups)
        whole = procrustes.fit(sums)
        ranks.append(whole.rank)
        entropies = procrustes.entropy_without_each(sums, whole, groups)
        rows.add_jackknifed("procrustes", "inverse_row_entropy", entropies, pair)
        halves = procrustes.halves(sums) if groups.count > 1 else None
        if halves and groups.count >= FEWEST_GROUPS:
            kept, agreement = procrustes.basis_kept(sums, halves, groups)
            rows.add_jackknifed("basis_kept", "value", kept, pair)
            rows.add("basis_kept", "agreement_of_halves", agreement, pair)
        if groups.count > 2 and (pair == final or settings.procrustes_intervals == "all"):
            _add_jackknifed(rows, x, y, sums, whole, pair, groups)
        else:
            _add_halved(rows, sums, whole, pair, halves)
        _add_description(rows, whole, pair)
        if pair == final:
            _add_published(rows, x, y, sums, whole, pair)
            matrices = {"rotation": whole.rotation.astype(np.float32)}
    if min(ranks) < left.width:
        log.warning(
            "some layers' states fix as few as %d of %d directions; the rest of their rotations is arbitrary",
            min(ranks), left.width,
        )  # fmt: skip
    return matrices


def _numbers(fitted: procrustes.Fit) -> dict[str, float]:
    """What is said of a rotation and of the states that it was fitted on."""
    return {
        "angular_distance": fitted.angle,
        "residual_in_sample": fitted.residual,
    }


def _add_jackknifed(
    rows: Rows,
    left: Layer,
    right: Layer,
    sums: procrustes.LayerSums,
    whole: procrustes.Fit,
    pair: tuple[int, int],
    groups: Groups,
) -> None:
    """Numbers with intervals, and the rotation judged on each group by a fit without that group."""
    numbers, unseen = [_numbers(whole)], []
    for group in range(groups.count):
        fitted = procrustes.fit(sums, [group])
        numbers.append(_numbers(fitted))
        total = 0.0
        for block in (b for b in left.side.blocks if b.group == group):
            x, y = left.exact(block.rows), right.exact(block.rows)
            total += procrustes.cosines((x - fitted.mean_x) @ fitted.rotation, y - fitted.mean_y).sum()
        unseen.append([*procrustes.misfit(sums, fitted, np.array([group])), total, groups.sizes[group]])
    for statistic in numbers[0]:
        values = np.array([n[statistic] for n in numbers])
        rows.add_jackknifed("procrustes", statistic, values, pair)
    misfit, size, cosine, count = groups.leave_out(np.array(unseen)).T
    rows.add_jackknifed("procrustes", "residual", _ratio(misfit, size), pair)
    rows.add_jackknifed("procrustes", "cosine", cosine / count, pair)


def _ratio(misfit: Array, size: Array) -> Array:
    """Misfit by size; where nothing varies, nothing is left to explain."""
    return np.divide(misfit, size, out=np.zeros_like(misfit), where=size > 0)


def _add_halved(
    rows: Rows,
    sums: procrustes.LayerSums,
    whole: procrustes.Fit,
    pair: tuple[int, int],
    halves: tuple[procrustes.Fit, procrustes.Fit] | None,
) -> None:
    """Numbers alone, and the rotation judged on either half of the groups by a fit on the other."""
    for statistic, value in _numbers(whole).items():
        rows.add("procrustes", statistic, value, pair)
    if halves:
        everyone = np.arange(len(sums.counts))
        unseen = [procrustes.misfit(sums, half, everyone[k::2]) for k, half in enumerate(halves)]
        misfit, size = np.sum(unseen, axis=0)
        rows.add("procrustes", "residual", float(_ratio(misfit, size)), pair)


def _add_description(rows: Rows, whole: procrustes.Fit, pair: tuple[int, int]) -> None:
    """What kind of rotation it is, and what a random one would be."""
    entropies = procrustes.inverse_row_entropies(whole.rotation)
    found = {
        "inverse_row_entropy_min": entropies.min(),
        "inverse_row_entropy_max": entropies.max(),
        "inverse_row_entropy_haar": procrustes.haar_inverse_row_entropy(len(entropies)),
        "sparsity": (np.abs(whole.rotation) < 1e-5).mean(),
        "rank": whole.rank,
        **procrustes.shares(whole.rotation),
    }
    for statistic, value in found.items():
        rows.add("procrustes", statistic, float(value), pair)


def _add_published(
    rows: Rows,
    left: Layer,
    right: Layer,
    sums: procrustes.LayerSums,
    whole: procrustes.Fit,
    pair: tuple[int, int],
) -> None:
    """Residual and cosines as published: of raw values, though the rotation was fitted on centred ones."""
    found = []
    for block in left.side.blocks:
        x, y = (side.exact(block.rows) + side.shift for side in (left, right))
        found.append(procrustes.cosines(x @ whole.rotation, y))
    cosines = np.concatenate(found)
    residual = procrustes.uncentred_residual(sums, whole, left.shift, right.shift)
    for statistic, value in (
        ("residual", residual),
        ("cosine", cosines.mean()),
        ("cosine_min", cosines.min()),
    ):
        rows.add("procrustes", statistic, float(value), pair, PUBLISHED)


def write_matrices(path: Path, matrices: Matrices) -> None:
    """The matrices worth keeping, in one HDF5 file whose bytes depend on them alone."""
    check_room(path, sum(matrix.nbytes for matrix in matrices.values()) + (1 << 16))
    with h5py.File(path, "w", track_order=False) as file:
        file.attrs["format"], file.attrs["version"] = "realign-matrices", 1
        for name in sorted(matrices):
            file.create_dataset(name, data=matrices[name], track_times=False)
