"""The few products that cost nearly all the time, on the processor (numpy) or on a GPU (torch).

Products are taken in float32 or float64; every sum over many products is taken in float64, because
float32 sums over large matrices lose the second digit of a similarity.
"""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np

from realign.hrsa.reading import Array

Precision = Literal["float32", "float64"]
PANEL_BYTES = 32 << 20  # sums by group that are held of one layer pair at a time


class Centred(Protocol):
    """One layer's centred values (`centred.Layer`) as products take them."""

    @property
    def held(self) -> list[Any] | None:
        """Its blocks as the products hold them; nothing where each is read when it is wanted."""

    @property
    def sums(self) -> Array:
        """Each group's sums: (groups, width)."""

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Each block, tokens × width, after the group that it is of."""


class Products(Protocol):
    """What a device must be able to do; all results are float64 on the host."""

    dtype: np.dtype[Any]

    def hold(self, values: Array) -> Any:
        """Values that are wanted for many products, where these are taken."""
        ...

    def feature_sums(self, left: Centred, right: Centred) -> tuple[Array, Array]:
        """Sums of two layers' linear kernels, by the groups of their tokens.

        Σ K_ij L_ij by the groups of i and j, and Σ K_ij L_ik by those of i, j and k: both follow
        from each group's Σ x yᵀ.
        """
        ...

    def by_dimension(self, left: Array, right: Array) -> Array:
        """Sums over rows by dimension: (layers, rows, d) twice give (layers, layers, d)."""
        ...

    def grams(self, first: Array, second: Array) -> Any:
        """Inner products of rows, layer by layer: (layers, a, d) and (layers, b, d) give (layers, a, b)."""
        ...

    def gram_sums(self, left: Any, right: Any) -> tuple[Array, Array, Array]:
        """Sums of products of two stacks of Gram blocks: across all layers, and each with itself."""
        ...

    def margins(self, grams: Any) -> tuple[Array, Array]:
        """Row sums and column sums of a stack of Gram blocks."""
        ...


class NumpyProducts:
    """Products on the processor."""

    def __init__(self, precision: Precision = "float32"):
        self.dtype = np.dtype(precision)

    def hold(self, values: Array) -> Array:
        """Values that are wanted for many products, where these are taken."""
        return values

    def feature_sums(self, left: Centred, right: Centred) -> tuple[Array, Array]:
        """Sums of two layers' linear kernels, by the groups of their tokens."""
        (groups, p), (_, q) = left.sums.shape, right.sums.shape
        pairs, triples = np.zeros((groups, groups)), np.zeros((groups, groups, groups))
        # a few dimensions at a time stay in the processor's cache; to read layers again for each costs more
        panel = p if left.held is None or right.held is None else max(16, PANEL_BYTES // (8 * groups * q))
        for start in range(0, p, panel):
            some = slice(start, start + panel)
            cross = np.zeros((groups, len(range(p)[some]), q))
            for (group, x), (_, y) in zip(left, right, strict=True):
                cross[group] += x[:, some].T @ y
            flat = cross.reshape(groups, -1)
            pairs += flat @ flat.T
            triples += left.sums[:, some] @ cross @ right.sums.T
        return pairs, triples

    def by_dimension(self, left: Array, right: Array) -> Array:
        """Sums over rows by dimension: (layers, rows, d) twice give (layers, layers, d)."""
        by = np.ascontiguousarray(left.transpose(2, 0, 1)) @ np.ascontiguousarray(right.transpose(2, 1, 0))
        return by.transpose(1, 2, 0).astype(np.float64)

    def grams(self, first: Array, second: Array) -> Array:
        """Inner products of rows, layer by layer: (layers, a, d) and (layers, b, d) give (layers, a, b)."""
        return first @ second.transpose(0, 2, 1)

    def gram_sums(self, left: Array, right: Array) -> tuple[Array, Array, Array]:
        """Sums of products of two stacks of Gram blocks: across all layers, and each with itself."""
        # one product per row of the block, so that no float32 sum runs over more than a row
        across = left.transpose(1, 0, 2) @ right.transpose(1, 2, 0)
        own = [np.einsum("lij,lij->li", s, s).sum(1, dtype=np.float64) for s in (left, right)]
        return across.sum(0, dtype=np.float64), own[0], own[1]

    def margins(self, grams: Array) -> tuple[Array, Array]:
        """Row sums and column sums of a stack of Gram blocks."""
        return grams.sum(2, dtype=np.float64), grams.sum(1, dtype=np.float64)
