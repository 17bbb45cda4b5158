"""Two models' states over the same tokens, read group by group and centred on their means.

One first pass finds each layer's means. All later sums are of centred values, which keeps float32
products exact enough and makes leaving a group out a matter of subtracting its sums.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from realign.artifacts.command import UserError
from realign.engine.progress import follow
from realign.hrsa.groups import Block, Groups
from realign.hrsa.products import Products
from realign.hrsa.reading import Array, ArrayStates, States

BLOCK_BYTES = 32 << 20  # what is read of one layer at a time, in float64
MOST_ROWS = 4096


class Side:
    """One model's states, centred: `sums` are each group's sums of centred values."""

    def __init__(self, states: States, groups: Groups, products: Products):
        self.states, self.products = states, products
        self.layers, self.width, self.name = states.layers, states.width, states.name
        self.shift = np.zeros((states.layers, states.width))
        sums = np.zeros((groups.count, states.layers, states.width))
        blocks = groups.blocks(rows_at_once(states.width))
        for layer in follow(range(states.layers), f"means of {states.name}", unit="layers"):
            for block in blocks:
                part = states.read(layer, block.rows)
                sums[block.group, layer] += part.sum(0, dtype=np.float64)
            if not np.isfinite(sums[:, layer]).all():
                raise UserError(f"{states.name}: layer {layer} holds values that are not finite")
        self.shift = sums.sum(0) / groups.tokens
        self.sums = sums - groups.sizes[:, None, None] * self.shift
        # sums of equal values are off by rounding alone, and so is what is left of them
        self.constant = _constant(states, blocks, self.shift)

    def exact(self, layer: int, block: Block) -> Array:
        """A block of one layer, centred."""
        return np.subtract(self.states.read(layer, block.rows), self.shift[layer], dtype=np.float64)

    def read(self, layer: int, block: Block) -> Array:
        """The same in the precision of the products."""
        return self._centred(self.states.read(layer, block.rows), layer)

    def _centred(self, values: Array, layer: int) -> Array:
        exact = np.subtract(values, self.shift[layer], dtype=np.float64)
        return exact.astype(self.products.dtype, copy=False)

    def stack(self, layers: range, block: Block) -> Array:
        """A block of several layers: (layers, rows, width)."""
        result = np.empty((len(layers), block.size, self.width), self.products.dtype)
        for i, layer in enumerate(layers):
            result[i] = self.read(layer, block)
        return result

    def layer(self, index: int, groups: Groups, hold: bool) -> "Layer":
        """One layer for many products: held where it fits, which saves reading it for each of them."""
        blocks = groups.blocks(rows_at_once(self.width))
        held: list[Any] | None = None
        if hold:
            whole = ArrayStates(self.states.read(index, [slice(0, self.states.tokens)]))
            held = [self.products.hold(self._centred(whole.read(0, b.rows), index)) for b in blocks]
        return Layer(self, index, blocks, held, self.sums[:, index])


@dataclass(frozen=True)
class Layer:
    """One layer's centred values in the precision of the products, block by block."""

    side: Side
    index: int
    blocks: list[Block]
    held: list[Any] | None  # each block as the products hold it; read each time where there is none
    sums: Array  # each group's

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Each block with the group that it is of."""
        for i, block in enumerate(self.blocks):
            yield block.group, self.side.read(self.index, block) if self.held is None else self.held[i]


def _constant(states: States, blocks: list[Block], shift: Array) -> Array:
    """Which layers hold the same values for every token."""
    constant = np.ones(states.layers, bool)
    for layer in range(states.layers):
        for block in blocks:  # nearly always decided by the first
            far = np.abs(states.read(layer, block.rows) - shift[layer])
            if (far > 1e-12 * np.abs(shift[layer])).any():
                constant[layer] = False
                break
    return constant


def rows_at_once(width: int, layers: int = 1) -> int:
    """How many rows of so many layers fit a block; float32 sums over more would lose digits."""
    return min(MOST_ROWS, max(64, BLOCK_BYTES // (8 * width * layers)))


def tiles(count: int, size: int) -> Iterator[range]:
    """0 … count-1 in consecutive ranges of at most `size`."""
    return (range(start, min(start + size, count)) for start in range(0, count, max(1, size)))
