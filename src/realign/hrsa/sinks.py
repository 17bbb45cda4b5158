"""Attention sinks: the few tokens whose states are many times longer than all others.

A token of 300 deviations weighs 90,000 times as much as another one in every sum of squares, so that two
models that share nothing but where their sinks are look alike to linear CKA. Here they are found by a
rule that knows nothing of the model, and the linear measures of corresponding layers are taken once more
without them. Rows of the preset `without_sinks` hold those; where no token is a sink there are none.
"""

import logging

import numpy as np

from realign.hrsa import procrustes
from realign.hrsa.centred import Layer, Side, both_sides
from realign.hrsa.cka import cka_sums
from realign.hrsa.correlation import Correlation
from realign.hrsa.groups import Groups
from realign.hrsa.opening import FEWEST_TOKENS
from realign.hrsa.products import Products
from realign.hrsa.reading import Array, OneLayer, Picked, States
from realign.hrsa.rows import Rows
from realign.results.columns import WITHOUT_SINKS
from realign.study.hrsa import FEWEST_GROUPS

log = logging.getLogger(__name__)
TOP_TOKENS = 0.001  # the share of tokens whose part of the variance is reported


def share_of_top_tokens(side: Side) -> Array:
    """The share of each layer's variance that one token in a thousand carries."""
    count = int(np.ceil(TOP_TOKENS * side.groups.tokens))
    energy = np.sort(side.lengths**2, axis=1)
    return energy[:, -count:].sum(1) / np.maximum(energy.sum(1), np.finfo(float).tiny)


def share_of_top_dimension(side: Side) -> Array:
    """The share of each layer's variance that its largest dimension carries."""
    energy = side.squares.sum(0)
    return energy.max(1) / np.maximum(energy.sum(1), np.finfo(float).tiny)


def find_sinks(side: Side, multiple: float) -> Array:
    """Which tokens, in the order of groups, are in any layer longer than so many times its median."""
    return np.asarray((side.lengths > multiple * np.median(side.lengths, axis=1, keepdims=True)).any(0))


def add_without_sinks(
    rows: Rows, left: Side, right: Side, groups: Groups, products: Products, multiple: float
) -> None:
    """Describe the sinks of both models, and measure corresponding layers without them."""
    for direction, side in (("left", left), ("right", right)):
        both = zip(share_of_top_tokens(side), share_of_top_dimension(side), strict=True)
        for layer, (tokens, dimension) in enumerate(both):
            layers = (layer, layer)
            rows.add("sinks", "top_tokens_share", tokens, layers, direction=direction)
            rows.add("sinks", "top_dimension_share", dimension, layers, direction=direction)
    sinks = find_sinks(left, multiple) | find_sinks(right, multiple)
    rows.add("sinks", "count", float(sinks.sum()))
    if not sinks.any() or left.layers != right.layers:
        return
    kept = np.sort(groups.order[~sinks])
    remaining = groups.of_rows(kept)
    if len(kept) < FEWEST_TOKENS or not remaining.sizes.all():
        log.warning("%d of %d tokens are sinks: too few others remain", sinks.sum(), groups.tokens)
        return
    log.info("%d of %d tokens are sinks; measured with them and without", sinks.sum(), groups.tokens)
    _measure(rows, Picked(left.states, kept), Picked(right.states, kept), remaining, products)


def _measure(rows: Rows, left: States, right: States, groups: Groups, products: Products) -> None:
    """CKA, correlation and the entropy of the rotation, layer by layer."""
    found: dict[str, list[Array]] = {}
    for layer in range(left.layers):
        x, y = both_sides(OneLayer(left, layer), OneLayer(right, layer), groups, products)
        correlation = Correlation(x, y, groups) if x.width == y.width else None
        sums = cka_sums(x, y, groups, products, correlation=correlation)
        values = {"cka": sums.cka()[:, 0, 0], "cka_debiased": sums.cka(debiased=True)[:, 0, 0]}
        if correlation is not None:
            values["correlation"] = correlation.means[:, 0, 0]
        for measure, of_layer in values.items():
            statistic = "mean" if measure == "correlation" else "value"
            rows.add_jackknifed(measure, statistic, of_layer, (layer, layer), preset=WITHOUT_SINKS)
            found.setdefault(measure, []).append(of_layer)
        if layer == left.layers - 1 and correlation is not None and not (x.constant[0] or y.constant[0]):
            _add_rotation(rows, x, y, layer, groups)
    own = rows.layers_of_means(left.layers)[""]
    for measure, by_layer in found.items():
        mean = np.mean([by_layer[layer] for layer in own], axis=0)
        rows.add_jackknifed(measure, "mean_over_layers", mean, preset=WITHOUT_SINKS)


def _add_rotation(rows: Rows, x: Side, y: Side, layer: int, groups: Groups) -> None:
    sums = procrustes.layer_sums(Layer(x, 0), Layer(y, 0), groups)
    whole = procrustes.fit(sums)
    entropies = procrustes.entropy_without_each(sums, whole, groups)
    layers = (layer, layer)
    rows.add_jackknifed("procrustes", "inverse_row_entropy", entropies, layers, preset=WITHOUT_SINKS)
    for statistic, value in procrustes.shares(whole.rotation).items():
        rows.add("procrustes", statistic, value, layers, preset=WITHOUT_SINKS)
    if groups.count >= FEWEST_GROUPS:
        kept, agreement = procrustes.basis_kept(sums, procrustes.halves(sums), groups)
        rows.add_jackknifed("basis_kept", "value", kept, layers, preset=WITHOUT_SINKS)
        rows.add("basis_kept", "agreement_of_halves", agreement, layers, preset=WITHOUT_SINKS)
