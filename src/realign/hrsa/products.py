"""The few products that cost nearly all the time, on the processor (numpy) or on a GPU (torch).

Products are taken in float32 or float64; every sum over many products is taken in float64, because
float32 sums over large matrices lose the second digit of a similarity.
"""

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from realign.hrsa.reading import Array

Precision = Literal["float32", "float64"]


class Products(Protocol):
    """What a device must be able to do; all results are float64 on the host."""

    dtype: np.dtype[Any]

    def cross(self, left: Array, right: Array) -> Array:
        """Sums of products over rows: (rows, p) and (rows, q) give (p, q)."""
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

    def cross(self, left: Array, right: Array) -> Array:
        """Sums of products over rows: (rows, p) and (rows, q) give (p, q)."""
        return (left.T @ right).astype(np.float64, copy=False)

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


def choose_products(precision: Precision = "float32") -> Products:
    """The GPU's products where there is a GPU, else the processor's; torch is loaded for a GPU only."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        import torch

        if torch.cuda.is_available():
            from realign.hrsa.torch_products import TorchProducts

            return TorchProducts(precision, torch.device("cuda"))
    return NumpyProducts(precision)
