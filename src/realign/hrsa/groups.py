"""Groups of texts, and intervals from leaving one group out at a time.

Tokens of one text are not independent, so the unit of every interval is the text. Texts are dealt
into groups at random (a corpus may list its labels in turn, and a group of one label is no small sample
of it), and a statistic is computed again without each group: no text is ever repeated,
which would make it its own neighbour, as resampling does. Tokens are read in the order of their groups, so
that sums over a group are sums over blocks of rows.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from realign.hrsa.reading import Array

FIRST_ORDER = 1.15  # by how much first-order intervals are widened: what makes them cover (bench/coverage.py)


def first_order(values: Array) -> Array:
    """A statistic of the whole and, to first order, without each group: spread a little wider.

    To first order, what a group's texts do to the neighbourhoods or the directions of other texts is
    left out, so that intervals come out too narrow.
    """
    return np.asarray(values[0] + FIRST_ORDER * (values - values[0]))


@dataclass(frozen=True)
class Block:
    """Rows of one group that are read together, counted in the order of groups (`Groups.order`)."""

    group: int
    rows: slice


class Interval(NamedTuple):
    """A value, the two ends of its interval, its standard error and its degrees of freedom.

    All but the value are NaN where there is one text only. The ends may be cut off where the measure's
    range ends; the error never is.
    """

    value: float
    low: float
    high: float
    error: float = np.nan
    freedom: float = np.nan


class Groups:
    """The texts of a sample, dealt into groups."""

    def __init__(self, text_index: Array, groups: int = 20, seed: int = 0):
        texts, of_row = np.unique(np.asarray(text_index), return_inverse=True)
        self.texts = len(texts)
        self.count = min(groups, self.texts)
        of_text = np.random.default_rng(seed).permutation(self.texts) % self.count
        self.of_row: Array = of_text[of_row]
        self.sizes = np.bincount(self.of_row, minlength=self.count)  # tokens in each group
        self.shares = np.bincount(of_text, minlength=self.count) / self.texts  # of the texts
        self.tokens = len(of_row)

    def of_rows(self, rows: Array) -> "Groups":
        """Some of the rows, each text in the group that it was dealt into."""
        some = copy.copy(self)
        some.__dict__ = {k: v for k, v in vars(self).items() if k not in ("lost", "fours", "order")}
        some.of_row = self.of_row[rows]
        some.sizes = np.bincount(some.of_row, minlength=self.count)
        some.tokens = len(rows)
        return some

    @cached_property
    def order(self) -> Array:
        """The tokens, group after group."""
        return np.argsort(self.of_row, kind="stable")

    def blocks(self, limit: int) -> list[Block]:
        """All rows, group after group, in blocks of at most `limit` rows."""
        blocks = []
        for group, (size, end) in enumerate(zip(self.sizes, np.cumsum(self.sizes), strict=True)):
            for part in np.array_split(np.arange(end - size, end), -(-size // limit)):
                blocks.append(Block(group, slice(int(part[0]), int(part[-1]) + 1)))
        return blocks

    @cached_property
    def lost(self) -> list[list[int]]:
        """Which groups are left out: none, and each in turn."""
        return [[], *([group] for group in range(self.count))]

    @cached_property
    def fours(self) -> tuple[Array, Array]:
        """What stands for sets of four tokens of different groups, with each group left out (first axis).

        For each pair of groups in how many ways the other two tokens can be had, and how many sets
        there are in all.
        """
        stay = np.array([[group not in lost for group in range(self.count)] for lost in self.lost], float)
        sizes = stay * self.sizes
        both, squares = (s[:, :, None] + s[:, None, :] for s in (sizes, sizes**2))
        left, left_squares = (s.sum(1)[:, None, None] for s in (sizes, sizes**2))
        others = (left - both) ** 2 - (left_squares - squares)
        others *= stay[:, :, None] * stay[:, None, :] * (1 - np.eye(self.count))
        return others, (others * sizes[:, :, None] * sizes[:, None, :]).sum((1, 2))

    @property
    def left_out(self) -> Array:
        """Tokens that remain: all of them first, then without each group in turn.

        Without a lone group none do; 1 stands for that, since means are taken of it and nobody reads them.
        """
        return np.maximum(self.leave_out(self.sizes), 1)

    def leave_out(self, sums: Array) -> Array:
        """From sums by group (first axis): the whole, then the whole without each group in turn."""
        whole = sums.sum(0, keepdims=True)
        return np.concatenate([whole, whole - sums])

    def leave_out_pairs(self, sums: Array) -> Array:
        """The same from sums over pairs of tokens, by the groups of both (first two axes)."""
        each = np.arange(len(sums))
        whole, touching = sums.sum((0, 1)), sums.sum(0) + sums.sum(1) - sums[each, each]
        return np.concatenate([whole[None], whole - touching])

    def leave_out_triples(self, sums: Array) -> Array:
        """The same from sums over three tokens, by the groups of all three (its axes)."""
        each = np.arange(len(sums))
        one = sums.sum((1, 2)) + sums.sum((0, 2)) + sums.sum((0, 1))
        two = sums[each, each].sum(1) + sums[each, :, each].sum(1) + sums[:, each, each].sum(0)
        whole = sums.sum()
        return np.r_[whole, whole - one + two - sums[each, each, each]]

    def interval(
        self, values: Array, confidence: float = 0.95, excess: float = 0.0
    ) -> tuple[Array, Array, Array]:
        """Value and interval ends from a statistic of the whole and without each group (first axis).

        The delete-a-group jackknife, weighted for groups of unequal numbers of texts, with
        Student's t for as many degrees of freedom as there are groups less one. `excess` is what a
        measure knows the variance to be overestimated by; no more than three quarters are taken off.
        """
        values = np.asarray(values, np.float64)
        reach = stdtrit(self.count - 1, (1 + confidence) / 2) * self.standard_error(values, excess)
        return values[0], values[0] - reach, values[0] + reach

    def standard_error(self, values: Array, excess: float = 0.0) -> Array:
        """The jackknife's standard error of a statistic, given as for `interval`; NaN of one group.

        The delete-m_j jackknife (Busing, Meijer and van der Leeden 1999). Group j of g holds the share
        1/h_j of the texts. With the value θ, θ_j without group j, and θ*_j = h_j θ − (h_j − 1) θ_j:

            θ̂ = g θ − Σ_j (1 − 1/h_j) θ_j,    variance = (1/g) Σ_j (θ*_j − θ̂)² / (h_j − 1)
        """
        values = np.asarray(values, np.float64)
        whole, without = values[0], values[1:]
        if self.count < 2:
            return np.full_like(whole, np.nan)
        shape = (-1, *[1] * (without.ndim - 1))
        shares = self.shares.reshape(shape)
        weight = 1 / shares  # h_j
        pseudo = weight * whole - (weight - 1) * without
        estimate = self.count * whole - ((1 - shares) * without).sum(0)
        variance = ((pseudo - estimate) ** 2 / (weight - 1)).mean(0)
        return np.asarray(np.sqrt(np.maximum(variance - excess, variance / 4)))

    def one(
        self,
        values: Array,
        confidence: float = 0.95,
        bounds: tuple[float, float] | None = None,
        excess: float = 0.0,
    ) -> Interval:
        """The interval of a single number, kept within the measure's range."""
        value, low, high = (float(x) for x in self.interval(values, confidence, excess))
        if bounds is not None:
            low, high = (float(np.clip(x, bounds[0], bounds[1])) for x in (low, high))
        error = float(self.standard_error(values, excess))
        return Interval(value, low, high, error, self.count - 1 if self.count > 1 else np.nan)
