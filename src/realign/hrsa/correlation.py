"""Dimension-wise correlation: does each coordinate of one model follow the same one of the other?

Pearson's r of every dimension over tokens, for all pairs of layers, from sums by group. A
dimension that does not vary has no correlation and is left out of means. For dimension d of layers i and j

    r_d = (E[x_d y_d] − E[x_d] E[y_d]) / (σ(x_d) σ(y_d)),

with every mean over the tokens that remain when a group is left out. Arrays over what is left out have
1 + g entries for g groups: none, then each in turn.
"""

import numpy as np

from realign.engine.progress import follow
from realign.hrsa.centred import Side, rows_at_once, tiles
from realign.hrsa.groups import Groups
from realign.hrsa.products import Products
from realign.hrsa.reading import Array

TILE_BYTES = 256 << 20
FLAT = 1e-12  # standard deviations (their product) below which a dimension does not vary
BINS = 40


class Correlation:
    """Correlations of all layer pairs: their means, and the final pair's by dimension."""

    def __init__(self, left: Side, right: Side, groups: Groups, products: Products):
        self.means = np.full((len(groups.lost), left.layers, right.layers), np.nan)
        self.final = np.zeros((len(groups.lost), left.width))  # r by dimension, of the last layers
        squares = [self._squares(side, groups) for side in (left, right)]
        per_layer = 8 * groups.count * right.layers * left.width
        blocks = groups.blocks(rows_at_once(left.width, left.layers))
        for tile in tiles(left.layers, max(1, TILE_BYTES // per_layer)):
            sums = np.zeros((groups.count, len(tile), right.layers, left.width))  # Σ x_d y_d by group
            for block in follow(blocks, "correlations", unit="blocks"):
                x, y = left.stack(tile, block), right.stack(range(right.layers), block)
                sums[block.group] += products.by_dimension(x, y)
            for i, layer in enumerate(tile):
                for j in range(right.layers):
                    r = self._pearson(left, right, squares, sums[:, i, j], layer, j, groups)
                    self.means[:, layer, j] = _mean(r)
                    if (layer, j) == (left.layers - 1, right.layers - 1):
                        self.final = r

    @staticmethod
    def _squares(side: Side, groups: Groups) -> Array:
        sums = np.zeros((groups.count, side.layers, side.width))  # Σ x_d² by group
        for layer in range(side.layers):
            for block in groups.blocks(rows_at_once(side.width)):
                x = side.read(layer, block)
                sums[block.group, layer] += np.einsum("ij,ij->j", x, x, dtype=np.float64)
        return sums

    @staticmethod
    def _pearson(
        left: Side, right: Side, squares: list[Array], sums: Array, i: int, j: int, groups: Groups
    ) -> Array:
        n = groups.left_out[:, None]  # tokens that remain: (1 + g, 1); all below is (1 + g, width)
        x, y = groups.leave_out(left.sums[:, i]), groups.leave_out(right.sums[:, j])
        covariance = groups.leave_out(sums) / n - x * y / n**2
        spread_x = np.sqrt(np.maximum(groups.leave_out(squares[0][:, i]) / n - (x / n) ** 2, 0))
        spread_y = np.sqrt(np.maximum(groups.leave_out(squares[1][:, j]) / n - (y / n) ** 2, 0))
        product = spread_x * spread_y
        r = np.divide(covariance, product, out=np.full_like(product, np.nan), where=product > FLAT)
        return np.clip(r, -1, 1)


def _mean(r: Array) -> Array:
    """The mean over the dimensions that vary; 0 where none does."""
    varies = np.isfinite(r)
    return np.where(varies, r, 0).sum(-1) / np.maximum(varies.sum(-1), 1)


def summary(r: Array) -> dict[str, float]:
    """How the correlations of one layer pair are spread over its dimensions."""
    r = r[np.isfinite(r)]
    if not len(r):
        return {}
    levels = {f"p{q:02d}": float(np.percentile(r, q)) for q in (5, 25, 50, 75, 95)}
    return {
        "std": float(r.std(ddof=1)) if len(r) > 1 else 0.0,
        "min": float(r.min()),
        "max": float(r.max()),
        **levels,
        "positive_share": float((r > 0).mean()),
        "absolute_mean": float(np.abs(r).mean()),
    }


def histogram(r: Array) -> Array:
    """Counts of dimensions in 40 equal bins from -1 to 1."""
    return np.histogram(r[np.isfinite(r)], BINS, (-1, 1))[0]
