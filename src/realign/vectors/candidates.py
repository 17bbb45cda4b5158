"""Which pairs of rows can be neighbours: those whose upper limit is above the row's threshold.

A threshold comes from the first rows, which are a random sample: its r-th best there, so that enough of
all rows are above it but for a few unlucky cases. Each tile of the symmetric product beyond the sample
is formed once, and gives candidates to the rows of both its sides.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from realign.vectors.held import is_host
from realign.vectors.limits import Limits
from realign.vectors.search import in_threads

Tensor = torch.Tensor
Answer = TypeVar("Answer")
BLOCK = 1008  # rows of a block: a tile stays in the cache, and its rows lie no power of two apart
SAMPLE = 8  # one row in so many is in the sample, at least
SURE = 2.5  # standard deviations by which a threshold keeps clear of losing what is wanted
TILE = 1 << 23  # products at a time of rows that are compared with all others


@dataclass(frozen=True)
class Candidates:
    """The best candidates of some rows by their upper limits, best first, in the numbers of `Limits`."""

    rows: Tensor
    places: Tensor  # (rows, columns); of no meaning where a row has fewer
    upper: Tensor  # (rows, columns + 1): each limits all that comes after it as well, seen or unseen


def by_sample(
    limits: Limits, count: int, threads: int, decide: Callable[[Candidates], Answer]
) -> list[Answer]:
    """What is decided on the `count` best candidates of every row, of which a few rows have fewer."""
    size, block = limits.size, _block(limits.size)
    sample = min(size, block * -(-size // (SAMPLE * block)))
    # Of the r best in the sample, r/share are expected among all rows, give or take √r/share.
    rank = int(np.ceil(((SURE + np.sqrt(SURE**2 + 4 * count * sample / size)) / 2) ** 2))
    if sample == size or 2 * rank > sample:
        return by_row(limits, torch.arange(size, device=limits.device), count, threads, decide)
    blocks = [slice(start, min(start + block, size)) for start in range(0, size, block)]
    sampled, others = blocks[: sample // block], blocks[sample // block :]
    thresholds = torch.empty(size, device=limits.device)
    kept = _Kept(limits)

    def compare_with_sample(rows: slice) -> None:
        tiles = [limits.upper(rows, columns) for columns in sampled]
        thresholds[rows] = _largest(torch.cat(tiles, dim=1), rank)
        for columns, tile in zip(sampled, tiles, strict=True):
            kept.take(tile, thresholds[rows], rows, columns)
            if rows.start >= sample:
                kept.take(tile.T, thresholds[columns], columns, rows)

    def compare_with_others(first: int) -> None:
        rows = others[first]
        for columns in others[first:]:
            tile = limits.upper(rows, columns)
            kept.take(tile, thresholds[rows], rows, columns)
            if columns != rows:
                kept.take(tile.T, thresholds[columns], columns, rows)

    def answer(rows: slice) -> Answer:
        numbers = torch.arange(rows.start, rows.stop, device=limits.device)
        return decide(kept.best(numbers, thresholds[rows], rows.start, count))

    in_threads(compare_with_sample, sampled, threads)
    in_threads(compare_with_sample, others, threads)
    in_threads(compare_with_others, range(len(others)), threads)
    return in_threads(answer, blocks, threads)


def by_row(
    limits: Limits, rows: Tensor, count: int, threads: int, decide: Callable[[Candidates], Answer]
) -> list[Answer]:
    """What is decided on the `count` best candidates of some rows, each compared with all rows."""
    step = max(1, min(_block(limits.size), TILE // limits.size))

    def answer(start: int) -> Answer:
        some = rows[start : start + step]
        upper = limits.upper(some, slice(0, limits.size))
        thresholds = _largest(upper, count + 1)
        kept = _Kept(limits)
        kept.take(upper, thresholds, slice(0, len(some)), slice(0, limits.size))
        return decide(kept.best(some, thresholds, 0, count))

    return in_threads(answer, range(0, len(rows), step), threads)


class _Kept:
    """Candidates as they come, each one integer: its row in the block, its limit from the top, its place.

    To sort these integers is to sort the candidates of all rows of a block at once.
    """

    def __init__(self, limits: Limits):
        self._bits = limits.size.bit_length()
        self._blocks: dict[int, list[Tensor]] = defaultdict(list)

    def take(self, tile: Tensor, thresholds: Tensor, rows: slice, columns: slice) -> None:
        """What is above its row's threshold in a tile of upper limits."""
        upper, row, column = _above(tile, thresholds)
        bits = upper.view(torch.int32)
        # A float's bits order like an integer, those of floats below zero the other way round.
        falling = 0x7FFFFFFF - (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
        keys = row << (32 + self._bits) | falling << self._bits | (column + columns.start)
        self._blocks[rows.start].append(keys)

    def best(self, rows: Tensor, thresholds: Tensor, start: int, count: int) -> Candidates:
        """The `count` best of the rows of one block."""
        device = rows.device
        end = torch.full((1,), torch.iinfo(torch.int64).max, device=device)
        keys = _sorted(torch.cat([*self._blocks.pop(start, []), end]))
        begins = torch.searchsorted(keys, torch.arange(len(rows) + 1, device=device) << (32 + self._bits))
        at = begins[:-1, None] + torch.arange(count + 1, device=device)
        there = at < begins[1:, None]
        keys = keys[at.clamp_(max=len(keys) - 1)]
        rising = (0x7FFFFFFF - ((keys >> self._bits) & 0xFFFFFFFF)).int()
        upper = (rising ^ ((rising >> 31) & 0x7FFFFFFF)).view(torch.float32)
        places = keys[:, :-1] & ((1 << self._bits) - 1)
        return Candidates(
            rows,
            torch.where(there[:, :-1], places, 0),
            torch.where(there, upper, thresholds[:, None]),
        )


def _block(size: int) -> int:
    """Rows of a block: no more than the bits of a candidate's integer can number beside the places."""
    return min(BLOCK, (1 << (31 - size.bit_length())) - 1)


def _above(tile: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The values above their row's threshold, and their rows and columns."""
    if not is_host(tile.device):
        row, column = (tile > thresholds[:, None]).nonzero(as_tuple=True)
        return tile[row, column], row, column
    # numpy compares and finds several times faster than torch, in the order of the memory
    turned = not tile.is_contiguous()
    held, limits = (tile.T, thresholds[None, :]) if turned else (tile, thresholds[:, None])
    flat = np.flatnonzero(held.numpy() > limits.numpy())
    first = flat // held.shape[1]
    second = flat - first * held.shape[1]
    rows, columns = (second, first) if turned else (first, second)
    return held.view(-1)[torch.from_numpy(flat)], torch.from_numpy(rows), torch.from_numpy(columns)


def _largest(values: Tensor, rank: int) -> Tensor:
    """Each row's value of that rank from the top; less than all where a row is shorter."""
    if rank > values.shape[1]:
        return torch.full((len(values),), -torch.inf, device=values.device)
    if not is_host(values.device):
        return values.topk(rank, dim=1).values[:, -1]
    at = values.shape[1] - rank
    return torch.from_numpy(np.partition(values.numpy(), at, axis=1)[:, at].copy())


def _sorted(keys: Tensor) -> Tensor:
    return torch.from_numpy(np.sort(keys.numpy())) if is_host(keys.device) else keys.sort().values
