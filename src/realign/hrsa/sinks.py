"""Attention sinks: the few tokens whose states are many times longer than all others.

A token of 300 deviations weighs 90,000 times as much as another one in every sum of squares, so that two
models that share nothing but where their sinks are look alike to linear CKA. Here they are found by a
rule that knows nothing of the model, and the linear measures of corresponding layers are taken once more
without them. Rows of the preset `without_sinks` hold those; where no token is a sink there are none.
"""

import logging
from dataclasses import dataclass

import numpy as np

from realign.hrsa import procrustes
from realign.hrsa.centred import Side, rows_at_once
from realign.hrsa.cka import cka_sums
from realign.hrsa.correlation import Correlation
from realign.hrsa.groups import Groups
from realign.hrsa.opening import FEWEST_TOKENS
from realign.hrsa.products import Products
from realign.hrsa.reading import Array, OneLayer, Picked, States
from realign.hrsa.rows import Rows
from realign.results.columns import WITHOUT_SINKS

log = logging.getLogger(__name__)
TOP_TOKENS = 0.001  # the share of tokens whose part of the variance is reported


@dataclass(frozen=True)
class Energy:
    """How one model's variance is spread over tokens and dimensions, layer by layer."""

    lengths: Array  # |x − mean|, (layers, tokens)
    of_dimensions: Array  # each dimension's share of the variance, (layers, width)

    @classmethod
    def of(cls, side: Side, groups: Groups) -> "Energy":
        """Read every layer once."""
        squares = np.zeros((side.layers, groups.tokens))
        by_dimension = np.zeros((side.layers, side.width))
        for block in groups.blocks(rows_at_once(side.width)):
            rows = np.r_[block.rows]
            for layer in range(side.layers):
                energy = side.exact(layer, block) ** 2
                squares[layer, rows] = energy.sum(1)
                by_dimension[layer] += energy.sum(0)
        total = np.maximum(by_dimension.sum(1, keepdims=True), np.finfo(float).tiny)
        return cls(np.sqrt(squares), by_dimension / total)

    def sinks(self, multiple: float) -> Array:
        """Which tokens are, in any layer, longer than so many times the layer's median."""
        return np.asarray((self.lengths > multiple * np.median(self.lengths, axis=1, keepdims=True)).any(0))

    def of_top_tokens(self) -> Array:
        """The share of each layer's variance that one token in a thousand carries."""
        count = int(np.ceil(TOP_TOKENS * self.lengths.shape[1]))
        squares = np.sort(self.lengths**2, axis=1)
        return squares[:, -count:].sum(1) / np.maximum(squares.sum(1), np.finfo(float).tiny)


def add_without_sinks(
    rows: Rows, left: Side, right: Side, groups: Groups, products: Products, multiple: float
) -> None:
    """Describe the sinks of both models, and measure corresponding layers without them."""
    both = {"left": Energy.of(left, groups), "right": Energy.of(right, groups)}
    for direction, energy in both.items():
        for layer, share in enumerate(energy.of_top_tokens()):
            layers = (layer, layer)
            rows.add("sinks", "top_tokens_share", share, layers, direction=direction)
            largest = energy.of_dimensions[layer].max()
            rows.add("sinks", "top_dimension_share", largest, layers, direction=direction)
    sinks = both["left"].sinks(multiple) | both["right"].sinks(multiple)
    rows.add("sinks", "count", float(sinks.sum()))
    if not sinks.any() or left.layers != right.layers:
        return
    kept = np.flatnonzero(~sinks)
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
        x, y = (Side(OneLayer(states, layer), groups, products) for states in (left, right))
        sums = cka_sums(x, y, groups, products)
        values = {"cka": sums.cka()[:, 0, 0], "cka_debiased": sums.cka(debiased=True)[:, 0, 0]}
        if x.width == y.width:
            values["correlation"] = Correlation(x, y, groups, products).means[:, 0, 0]
        for measure, of_layer in values.items():
            statistic = "mean" if measure == "correlation" else "value"
            rows.add_jackknifed(measure, statistic, of_layer, (layer, layer), preset=WITHOUT_SINKS)
            found.setdefault(measure, []).append(of_layer)
        if layer == left.layers - 1 and x.width == y.width and not (x.constant[0] or y.constant[0]):
            _add_rotation(rows, x, y, layer, groups)
    own = rows.layers_of_means(left.layers)[""]
    for measure, by_layer in found.items():
        mean = np.mean([by_layer[layer] for layer in own], axis=0)
        rows.add_jackknifed(measure, "mean_over_layers", mean, preset=WITHOUT_SINKS)


def _add_rotation(rows: Rows, x: Side, y: Side, layer: int, groups: Groups) -> None:
    sums = procrustes.layer_sums(x, y, (0, 0), groups)
    whole = procrustes.fit(sums)
    entropies = procrustes.entropy_without_each(sums, whole, groups)
    layers = (layer, layer)
    rows.add_jackknifed("procrustes", "inverse_row_entropy", entropies, layers, preset=WITHOUT_SINKS)
    for statistic, value in procrustes.shares(whole.rotation).items():
        rows.add("procrustes", statistic, value, layers, preset=WITHOUT_SINKS)
