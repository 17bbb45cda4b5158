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
    """Correlations of all layer pairs: their means, and the final pair's by dimension.

    What they need beside each layer's own sums are Σ x_d y_d by group. Products of features have these on
    their diagonals (`fill`); without such products they are read (`read`).
    """

    def __init__(self, left: Side, right: Side, groups: Groups):
        self.left, self.right, self.groups = left, right, groups
        self.means = np.full((len(groups.lost), left.layers, right.layers), np.nan)
        self.final = np.zeros((len(groups.lost), left.width))  # r by dimension, of the last layers

    def fill(self, i: int, j: int, sums: Array) -> None:
        """Put in one pair of layers from Σ x_d y_d by group: (groups, width)."""
        r = self._pearson(i, j, sums)
        self.means[:, i, j] = _mean(r)
        if (i, j) == (self.left.layers - 1, self.right.layers - 1):
            self.final = r

    def read(self, products: Products) -> "Correlation":
        """Read all layers for their sums."""
        left, right, groups = self.left, self.right, self.groups
        per_layer = 8 * groups.count * right.layers * left.width
        blocks = groups.blocks(rows_at_once(left.width, left.layers))
        for tile in tiles(left.layers, max(1, TILE_BYTES // per_layer)):
            sums = np.zeros((groups.count, len(tile), right.layers, left.width))  # Σ x_d y_d by group
            for block in follow(blocks, "correlations", unit="blocks"):
                x, y = left.stack(tile, block.rows), right.stack(range(right.layers), block.rows)
                sums[block.group] += products.by_dimension(x, y)
            for at, layer in enumerate(tile):
                for j in range(right.layers):
                    self.fill(layer, j, sums[:, at, j])
        return self

    def _pearson(self, i: int, j: int, sums: Array) -> Array:
        leave_out = self.groups.leave_out
        n = self.groups.left_out[:, None]  # tokens that remain: (1 + g, 1); all below is (1 + g, width)

        def spread(side: Side, layer: int, mean: Array) -> Array:
            return np.sqrt(np.maximum(leave_out(side.squares[:, layer]) / n - mean**2, 0))

        x, y = leave_out(self.left.sums[:, i]) / n, leave_out(self.right.sums[:, j]) / n
        covariance = leave_out(sums) / n - x * y
        product = spread(self.left, i, x) * spread(self.right, j, y)
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
