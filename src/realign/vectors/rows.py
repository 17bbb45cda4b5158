"""Rows of a matrix, whatever holds it: numpy, a memory map, or torch on any device.

Only the rows that are asked for are ever read or widened to float64, so a matrix on disk stays on
disk. Equal rows are found here too: a corpus with repeated vectors is searched once per distinct one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Matrix = Any  # np.ndarray, np.memmap or torch.Tensor of two dimensions
Floats = np.ndarray[Any, np.dtype[np.float64]]
Places = np.ndarray[Any, np.dtype[np.int64]]

CHUNK_BYTES = 1 << 20  # how much is widened to float64 at a time: it stays in a processor's cache


class Rows:
    """A matrix read by rows as float64, or a chosen subset of its rows."""

    def __init__(self, matrix: Matrix, name: str = "matrix", chosen: Places | None = None):
        if getattr(matrix, "ndim", 0) != 2:
            raise ValueError(f"{name}: expected a matrix of rows, got {type(matrix).__name__}")
        self.name = name
        # a memory map as a plain array: the subclass makes reading rows slow
        self._matrix = matrix.view(np.ndarray) if isinstance(matrix, np.memmap) else matrix
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._matrix) if self._chosen is None else len(self._chosen)

    @property
    def width(self) -> int:
        """Values in a row."""
        return int(self._matrix.shape[1])

    def subset(self, chosen: Places) -> "Rows":
        """These rows alone, in this order."""
        return Rows(self._matrix, self.name, chosen if self._chosen is None else self._chosen[chosen])

    def raw(self, which: slice | Places | Sequence[int]) -> np.ndarray:
        """Rows in the type they are stored in (bfloat16, which numpy lacks, as float32)."""
        index: Any = which if self._chosen is None else self._chosen[which]
        if not isinstance(self._matrix, torch.Tensor):
            if isinstance(index, slice):
                return np.ascontiguousarray(self._matrix[index])
            return np.take(self._matrix, index, axis=0)  # faster than an index in brackets
        if isinstance(index, np.ndarray | list):
            index = torch.as_tensor(index, device=self._matrix.device)
        part = self._matrix[index].detach()
        return np.ascontiguousarray((part.float() if part.dtype == torch.bfloat16 else part).cpu().numpy())

    def read(self, which: slice | Places | Sequence[int]) -> Floats:
        """Rows as float64."""
        return self.raw(which).astype(np.float64, copy=False)

    def chunks(self) -> Iterator[tuple[int, Floats]]:
        """All rows, some megabytes at a time, each chunk with the place of its first row."""
        size = max(1, CHUNK_BYTES // (8 * max(1, self.width)))
        for start in range(0, len(self), size):
            yield start, self.read(slice(start, min(start + size, len(self))))

    def norms(self) -> Floats:
        """The length of each row; a value that is not finite is an error that names its row."""
        norms = np.empty(len(self))
        for start, chunk in self.chunks():
            norms[start : start + len(chunk)] = np.sqrt(np.sum(chunk * chunk, axis=1))
        bad = np.flatnonzero(~np.isfinite(norms))
        if bad.size:
            raise ValueError(f"{self.name}: row {bad[0]} holds a value that is not finite, or is too large")
        return norms


@dataclass(frozen=True)
class Distinct:
    """Which rows are equal: each distinct row's first place, and all places of each, ascending."""

    first: Places  # the place of each distinct row's first occurrence, ascending
    which: Places  # for each row, which distinct row it is
    order: Places  # all rows, grouped by distinct row, ascending within one
    starts: Places  # where each distinct row's group begins in `order`; one more at the end

    @property
    def repeats(self) -> bool:
        """Whether any row occurs twice."""
        return len(self.first) < len(self.which)

    def members(self, distinct: Places, at_most: int) -> tuple[Places, Places]:
        """The places of some distinct rows, no more than `at_most` of each, and whose each is."""
        begins = self.starts[distinct]
        counts = np.minimum(self.starts[distinct + 1] - begins, at_most)
        owner = np.repeat(np.arange(len(distinct)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.order[begins[owner] + within], owner


def find_distinct(rows: Rows) -> Distinct:
    """Group equal rows, by a hash first and then by their bytes."""
    hashes = np.empty(len(rows), np.uint64)
    factors: np.ndarray | None = None
    for start in range(0, len(rows), step := max(1, CHUNK_BYTES // (8 * max(1, rows.width)))):
        words = _words(rows.raw(slice(start, min(start + step, len(rows)))))
        if factors is None:
            generator = np.random.default_rng(0x5EED)
            factors = generator.integers(0, 1 << 63, words.shape[1], np.uint64) | np.uint64(1)
        hashes[start : start + len(words)] = words @ factors
    order = np.argsort(hashes, kind="stable")
    new = np.ones(len(rows), bool)
    same_hash = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]]) + 1
    for start in range(0, len(same_hash), step):
        part = same_hash[start : start + step]
        new[part] = (rows.raw(order[part]) != rows.raw(order[part - 1])).any(axis=1)
    group = np.cumsum(new) - 1
    first = order[np.flatnonzero(new)]
    rank = np.empty(len(first), np.int64)  # groups are numbered by their first row, not by hash
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    which = np.empty(len(rows), np.int64)
    which[order] = rank[group]
    by_group = np.argsort(which, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=len(first)))]).astype(np.int64)
    return Distinct(np.sort(first), which, by_group, starts)


def _words(raw: np.ndarray) -> np.ndarray:
    """Rows as unsigned integers of their bits, as few as there can be."""
    size = 8 if raw.shape[1] * raw.dtype.itemsize % 8 == 0 else raw.dtype.itemsize
    return raw.view(f"u{size}").astype(np.uint64, copy=False)
