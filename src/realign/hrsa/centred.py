"""Two models' states over the same tokens, group after group and centred on their means.

One first pass finds each layer's means. All later sums are of centred values, which keeps float32
products exact enough and makes leaving a group out a matter of subtracting its sums.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from realign.artifacts.command import UserError
from realign.engine.progress import follow
from realign.hrsa.groups import Block, Groups
from realign.hrsa.products import Products
from realign.hrsa.reading import Array, Picked, States

BLOCK_BYTES = 32 << 20  # what is computed with of one layer at a time, in float64
HELD_BYTES = 1 << 30  # layers that are held at a time; where three do not fit, they are read by block
MOST_ROWS = 4096


class Side:
    """One model's states, centred, and what describes each layer, found in the one pass that finds the means.

    Tokens stand in the order of their groups. `shift` holds the means, (layers, width); `sums` and `squares`
    each group's sums of centred values and of their squares, (groups, layers, width); `lengths` each token's
    distance from the mean, (layers, tokens); `constant` the layers whose tokens are all equal.
    """

    def __init__(self, states: States, groups: Groups, products: Products, blocks: list[Block]):
        self.states, self.groups, self.products, self.blocks = states, groups, products, blocks
        self.layers, self.width, self.name = states.layers, states.width, states.name
        self.ordered = Picked(states, groups.order)
        self.shift = np.zeros((self.layers, self.width))
        self.sums = np.zeros((groups.count, self.layers, self.width))
        self.squares = np.zeros_like(self.sums)
        self.lengths = np.zeros((self.layers, groups.tokens))
        self.constant = np.ones(self.layers, bool)
        for index in follow(range(self.layers), f"means of {states.name}", unit="layers"):
            self._describe(index)

    def _describe(self, index: int) -> None:
        layer = Layer(self, index)
        sums = self.sums[:, index]
        for block in self.blocks:
            sums[block.group] += layer.stored(block.rows).sum(0, dtype=np.float64)
        if not np.isfinite(sums).all():
            raise UserError(f"{self.name}: layer {index} holds values that are not finite")
        self.shift[index] = shift = sums.sum(0) / self.groups.tokens
        sums -= self.groups.sizes[:, None] * shift
        for block in self.blocks:
            x = layer.exact(block.rows)
            if self.constant[index]:  # what rounding leaves of equal values is no variance
                self.constant[index] = (np.abs(x) <= 1e-12 * np.abs(shift)).all()
            energy = np.square(x, out=x)
            self.squares[block.group, index] += energy.sum(0)
            self.lengths[index, block.rows] = np.sqrt(energy.sum(1))

    @property
    def layers_at_once(self) -> int:
        """How many layers can be held in the precision of the products."""
        return HELD_BYTES // (self.groups.tokens * self.width * self.products.dtype.itemsize)

    def stack(self, layers: range, rows: slice) -> Array:
        """Rows of several layers in the precision of the products: (layers, rows, width)."""
        result = np.empty((len(layers), rows.stop - rows.start, self.width), self.products.dtype)
        for i, layer in enumerate(layers):
            stored = self.ordered.read(layer, [rows])
            np.subtract(stored, self.shift[layer], out=result[i], dtype=np.float64, casting="same_kind")
        return result


def both_sides(left: States, right: States, groups: Groups, products: Products) -> tuple[Side, Side]:
    """Two models' sides in the same blocks, since products take both models block by block."""
    blocks = groups.blocks(rows_at_once(max(left.width, right.width)))
    return Side(left, groups, products, blocks), Side(right, groups, products, blocks)


class Layer:
    """One layer, centred: read whole where it fits, because many slices of a file take longer."""

    def __init__(self, side: Side, index: int):
        self.side, self.index = side, index
        self.shift, self.sums, self.squares = side.shift[index], side.sums[:, index], side.squares[:, index]
        everything = [slice(0, side.groups.tokens)]
        self.is_whole = side.layers_at_once >= 3
        self._whole = side.ordered.read(index, everything) if self.is_whole else None

    def stored(self, rows: slice) -> Array:
        """Rows as they were stored."""
        return self.side.ordered.read(self.index, [rows]) if self._whole is None else self._whole[rows]

    def exact(self, rows: slice) -> Array:
        """Rows centred, in float64."""
        return np.subtract(self.stored(rows), self.shift, dtype=np.float64)


class Features:
    """One layer as products of features take it, block by block: a group, its tokens' values and row sums.

    The row sums of the kernel XXᵀ over each group's tokens, x_i·Σ_j x_j, are (tokens, groups) in float64.
    """

    def __init__(self, side: Side, index: int):
        self.shape = side.groups.count, side.width
        self.blocks, self.sums = len(side.blocks), side.sums[:, index]
        layer = Layer(side, index)
        parts = (self._part(layer, block) for block in side.blocks)
        self._parts = list(parts) if layer.is_whole else None
        self._layer = None if layer.is_whole else layer

    @staticmethod
    def _part(layer: Layer, block: Block) -> tuple[int, Any, Array]:
        x, products = layer.exact(block.rows), layer.side.products
        return block.group, products.hold(x.astype(products.dtype, copy=False)), x @ layer.sums.T

    @property
    def is_held(self) -> bool:
        """Whether it can be gone through again without reading it again."""
        return self._parts is not None

    def __iter__(self) -> Iterator[tuple[int, Any, Array]]:
        if self._parts is not None:
            return iter(self._parts)
        assert self._layer is not None
        return (self._part(self._layer, block) for block in self._layer.side.blocks)


def rows_at_once(width: int, layers: int = 1) -> int:
    """How many rows of so many layers fit a block; float32 sums over more would lose digits."""
    return min(MOST_ROWS, max(64, BLOCK_BYTES // (8 * width * layers)))


def tiles(count: int, size: int) -> Iterator[range]:
    """0 … count-1 in consecutive ranges of at most `size`."""
    return (range(start, min(start + size, count)) for start in range(0, count, max(1, size)))
