"""The few products that cost nearly all the time, on the processor (numpy) or on a GPU (torch).

Products are taken in float32 or float64; every sum over many products is taken in float64, because
float32 sums over large matrices lose the second digit of a similarity.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from realign.hrsa.reading import Array

Precision = Literal["float32", "float64"]
PANEL_BYTES = 64 << 20  # products by group that are held of one layer pair at a time
GRAM_BYTES = 32 << 20  # Gram blocks of all layers that are computed at a time
CHUNK_BYTES = 1 << 20  # of those, what is turned to float64 at a time: it stays in the processor's cache


class Features(Protocol):
    """One layer's centred values (`centred.Features`) as products take them."""

    shape: tuple[int, int]  # groups, width
    blocks: int

    @property
    def is_held(self) -> bool:
        """Whether it can be gone through again without reading it again."""

    def __iter__(self) -> Iterator[tuple[int, Any, Array]]:
        """Block by block its group, its values (tokens × width), and their row sums (tokens × groups)."""


class FeatureSums(NamedTuple):
    """Sums of two layers' linear kernels by the groups of their tokens, and of their values by dimension."""

    pairs: Array  # Σ K_ij L_ij, by the groups of i, j: (g, g)
    triples: Array  # Σ K_ij L_ik, by the groups of i, j, k: (g, g, g)
    by_dimension: Array  # Σ x_d y_d, by group: (g, the smaller width)


class Products(Protocol):
    """What a device must be able to do; all results are float64 on the host."""

    dtype: np.dtype[Any]

    def hold(self, values: Array) -> Any:
        """Values that are wanted for many products, where these are taken."""
        ...

    def feature_sums(self, left: Features, right: Features) -> FeatureSums:
        """Sums of two layers from C_g = Σ x yᵀ of each group: Σ K_ij L_ij of groups g, h is ⟨C_g, C_h⟩."""
        ...

    def by_dimension(self, left: Array, right: Array) -> Array:
        """Sums over rows by dimension: (layers, rows, d) twice give (layers, layers, d)."""
        ...

    def gram_sums(self, first: Sequence[Any], second: Sequence[Any]) -> Sequence[Array]:
        """Sums of products of Gram blocks of all layers: left with right ones, and each with itself.

        Of either block of tokens the values of both models: (layers, tokens, width) twice.
        """
        ...


class NumpyProducts:
    """Products on the processor."""

    def __init__(self, precision: Precision = "float32"):
        self.dtype = np.dtype(precision)
        self._last = np.empty(0, self.dtype)

    def hold(self, values: Array) -> Array:
        """Values that are wanted for many products, where these are taken."""
        return values

    def feature_sums(self, left: Features, right: Features) -> FeatureSums:
        """Sums of two layers from C_g = Σ x yᵀ of each group: Σ K_ij L_ij of groups g, h is ⟨C_g, C_h⟩."""
        (g, p), (_, q) = left.shape, right.shape
        sums = FeatureSums(np.zeros((g, g)), np.zeros((g, g, g)), np.zeros((g, min(p, q))))
        one_each = left.blocks == g  # else the products of a group's blocks are added, in float64
        dtype = self.dtype if one_each else np.dtype(np.float64)
        # a few dimensions at a time where all would take too much; to read layers again for each takes longer
        panel = max(16, PANEL_BYTES // (dtype.itemsize * g * q)) if left.is_held and right.is_held else p
        for start in range(0, p, panel):
            width = min(panel, p - start)
            cross = self._memory((g, width, q)) if one_each else np.zeros((g, width, q))
            for (group, x, in_left), (_, y, in_right) in zip(left, right, strict=True):
                if one_each:
                    np.matmul(x[:, start : start + width].T, y, out=cross[group])
                else:
                    cross[group] += x[:, start : start + width].T @ y
                if start == 0:
                    sums.triples[group] += in_left.T @ in_right
            sums.pairs[:] += _inner_products(cross)
            diagonal = np.diagonal(cross, start, 1, 2)
            sums.by_dimension[:, start : start + diagonal.shape[1]] = diagonal
        return sums

    def _memory(self, shape: tuple[int, ...]) -> Array:
        """The array of the last call, whatever it holds, since every entry will be set anyway.

        New memory of this size takes a tenth of the time of the products that it is for.
        """
        if self._last.shape != shape:
            self._last = np.empty(shape, self.dtype)
        return self._last

    def by_dimension(self, left: Array, right: Array) -> Array:
        """Sums over rows by dimension: (layers, rows, d) twice give (layers, layers, d)."""
        by = np.ascontiguousarray(left.transpose(2, 0, 1)) @ np.ascontiguousarray(right.transpose(2, 1, 0))
        return by.transpose(1, 2, 0).astype(np.float64)

    def gram_sums(self, first: Sequence[Array], second: Sequence[Array]) -> Sequence[Array]:
        """Sums of products of Gram blocks of all layers: left with right ones, and each with itself."""
        layers = [len(side) for side in first]
        sums = [np.zeros(shape) for shape in (layers, layers[0], layers[1])]
        # few rows at a time stay in the processor's cache
        rows = max(16, GRAM_BYTES // (self.dtype.itemsize * sum(layers) * second[0].shape[1]))
        for start in range(0, first[0].shape[1], rows):
            some = slice(start, start + rows)
            # (layers, rows of the first block, rows of the second)
            left, right = (x[:, some] @ y.transpose(0, 2, 1) for x, y in zip(first, second, strict=True))
            # one product per row of the block, so that no float32 sum runs over more than a row
            sums[0] += (left.transpose(1, 0, 2) @ right.transpose(1, 2, 0)).sum(0, dtype=np.float64)
            for own, grams in zip(sums[1:], (left, right), strict=True):
                own += np.einsum("lij,lij->li", grams, grams).sum(1, dtype=np.float64)
        return sums


def _inner_products(matrices: Array) -> Array:
    """Inner products of matrices with each other, in float64: (g, p, q) gives (g, g)."""
    g, p, q = matrices.shape
    rows = max(1, CHUNK_BYTES // (8 * g * q))
    found = np.zeros((g, g))
    for start in range(0, p, rows):
        flat = matrices[:, start : start + rows].astype(np.float64).reshape(g, -1)
        found += flat @ flat.T
    return found
