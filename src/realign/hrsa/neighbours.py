"""The neighbour family: do the same tokens stand near each other in both models?

Neighbours are exact (float64 decides), a token is never its own, and equal distances go to the
earlier token, so that equal states, as layer 0 has for equal tokens, are ranked alike in both
models. More neighbours are fetched than asked for: leaving a group of texts out of the pool then
only moves the later ones up, and the jackknife needs no second search.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import realign.measures.neighbours  # noqa: F401 (declares what its rows hold)
from realign.artifacts.command import Job, UserError
from realign.engine.progress import follow
from realign.hrsa.groups import Groups
from realign.hrsa.opening import Opened, open_pair
from realign.hrsa.reading import Array, read_all
from realign.hrsa.rows import Rows
from realign.study.hrsa import NeighboursJob
from realign.vectors.among import Among
from realign.vectors.exact import Metric

log = logging.getLogger(__name__)
METRICS: dict[str, Metric] = {"cosine": "cosine", "euclidean": "l2"}
ROWS = 4096  # tokens whose lists are compared at a time
TABLE = 1 << 20  # cells of the table of ranks: it stays in a processor's cache


def run(job: Job[NeighboursJob]) -> None:
    """The command: two files of states to rows."""
    with open_pair(job.input("left"), job.input("right"), job.settings) as pair:
        measure(pair, job.settings)
        pair.rows.write(job.output("measures"))


def measure(pair: Opened, settings: NeighboursJob) -> None:
    """Overlap of neighbours in corresponding layers, added to the pair's rows."""
    left, right, groups = pair.left, pair.right, pair.groups
    largest = settings.k[-1]
    pool = left.tokens - 1 - (0 if settings.same_text else _longest_text(left.text_index) - 1)
    if pool < largest:
        raise UserError(f"{left.name}: {largest} neighbours are asked for, and only {pool} tokens can be one")
    layers = range(left.layers) if left.layers == right.layers else [-1]
    found: list[dict[int, Overlap]] = []
    for layer in follow(layers, "neighbours", unit="layers"):
        pairs = [s.layers - 1 if layer < 0 else layer for s in (left, right)]
        mine, theirs = (
            nearest(read_all(s, i), largest, settings.metric, left.text_index, groups, settings.same_text)
            for s, i in zip((left, right), pairs, strict=True)
        )
        overlaps = compare_lists(mine, theirs, settings.k, groups)
        found.append(overlaps)
        for k, overlap in overlaps.items():
            _add(pair.rows, overlap, k, (pairs[0], pairs[1]))
    if left.layers != right.layers:
        log.warning("%d and %d layers: only the final ones correspond", left.layers, right.layers)
        return  # and a mean over layers is of none
    for k in settings.k:
        _add_means(pair.rows, [by_k[k] for by_k in found], k)


def _longest_text(text_index: Array) -> int:
    return int(np.unique(text_index, return_counts=True)[1].max())


def nearest(
    vectors: Array, k: int, metric: str, text_index: Array, groups: Groups, same_text: bool = True
) -> Array:
    """Each row's nearest rows, nearest first: k of them and some more, -1 where there are no more."""
    spare = k + 8 if groups.count > 1 else 0  # for those that leave with a group
    width = min(k + spare, len(vectors) - 1)
    fetched = width if same_text else min(width + _longest_text(text_index) - 1, len(vectors) - 1)
    result = np.full((len(vectors), width), -1, np.int64)
    for rows, places in Among(vectors, fetched, METRICS[metric]).run():
        if not same_text:
            places = _without_own_text(places, text_index[rows], text_index, width)
        result[rows] = places
    return result


def _without_own_text(places: Array, own: Array, text_index: Array, width: int) -> Array:
    foreign = (places >= 0) & (text_index[places] != own[:, None])
    order = np.argsort(~foreign, axis=1, kind="stable")[:, :width]  # theirs first, in their order
    kept = np.take_along_axis(places, order, 1)
    return np.where(np.take_along_axis(foreign, order, 1), kept, -1)


MEASURES = ("knn_overlap", "mutual_knn")


@dataclass
class Overlap:
    """Sums over each group's tokens (last axis) with each group left out (first axis): (1 + g, g).

    With the k nearest tokens N(i) and M(i) of token i in either model, `knn_overlap` is the mean over i of
    |N ∩ M| / |N ∪ M| (Jaccard) and `mutual_knn` that of |N ∩ M| / k (Huh et al. 2024).
    """

    groups: Groups
    sums: dict[str, Array]

    def means(self, measure: str) -> Array:
        """The mean over tokens with each group left out."""
        return self.sums[measure].sum(1) / self.groups.left_out

    def excess(self, measure: str) -> float:
        """What the jackknife overestimates the variance by.

        Who is near whom depends on pairs of texts, and the jackknife counts what is due to pairs
        twice (Efron and Stein 1981). It shows in how differently the groups' tokens take to losing
        another group. Half of the estimate is taken off, since it is itself uncertain.
        """
        count, sizes = self.groups.count, self.groups.sizes
        if count < 4:
            return 0.0
        off = ~np.eye(count, dtype=bool)
        sums = self.sums[measure]
        change = np.where(off, (sums[1:] - sums[0]) / sizes, np.nan)  # lost group × tokens' group
        for _ in range(10):  # what is left beside the effects of both groups
            change -= np.nanmean(change, 1, keepdims=True)
            change -= np.nanmean(change, 0, keepdims=True)
        pairs = np.where(off, change, 0) * sizes / self.groups.tokens
        freedom = (count - 1) ** 2 - count
        together = float((np.triu(pairs + pairs.T, 1) ** 2).sum())
        return together * count * (count - 1) / freedom / 2


def mean_of(overlaps: Sequence[Overlap]) -> Overlap:
    """The mean of several layers' overlaps."""
    sums = {m: np.mean([o.sums[m] for o in overlaps], axis=0) for m in MEASURES}
    return Overlap(overlaps[0].groups, sums)


def compare_lists(left: Array, right: Array, ks: Sequence[int], groups: Groups) -> dict[int, Overlap]:
    """Overlap of two sets of neighbour lists, for each k, with each group left out.

    Leaving a group out removes its tokens and their place in everyone's lists. The whole is exact;
    where a group takes so many of a token's neighbours that fewer than k were fetched of the rest,
    the remaining ones are compared, which touches intervals only.
    """
    shape = groups.count + 1, groups.count
    found = {k: Overlap(groups, {m: np.zeros(shape) for m in MEASURES}) for k in ks}
    for start in range(0, len(left), ROWS):
        rows = slice(start, start + ROWS)
        own = groups.of_row[rows]
        lists = _Lists(left[rows], right[rows], groups)
        for left_out in range(-1, groups.count):
            stay = own != left_out
            for k, (shared, size) in zip(ks, lists.shared(ks, left_out), strict=True):
                of = {
                    "knn_overlap": shared / np.maximum(2 * size - shared, 1),
                    "mutual_knn": shared / np.maximum(size, 1),
                }
                for measure, values in of.items():
                    by_group = np.bincount(own, np.where(stay, values, 0), minlength=groups.count)
                    found[k].sums[measure][left_out + 1] += by_group
    return found


class _Lists:
    """Both models' neighbour lists of some tokens, to be compared with any group's tokens taken out.

    Small integers, (neighbours, tokens): one instruction then counts for dozens of tokens.
    """

    def __init__(self, left: Array, right: Array, groups: Groups):
        widest = max(left.shape[1], right.shape[1])
        self._kind = np.min_scalar_type(widest + 1)
        group_of = np.append(groups.of_row, groups.count).astype(np.min_scalar_type(groups.count))
        self._none = groups.count  # the group of what is no neighbour, -1, which is the last of these
        self._groups = [group_of[side].T.copy() for side in (left, right)]
        # for each left neighbour its rank from 0 in the right list, or a number above all ranks
        self._ranks = _ranks(left, right, len(groups.of_row), self._kind).T.copy()

    def shared(self, ks: Sequence[int], left_out: int) -> Iterator[tuple[Array, Array]]:
        """For each k how many of the first k neighbours are shared, and how many there are to share."""
        stays = [(side != left_out) & (side != self._none) for side in self._groups]
        # how many remain up to each: the first k that remain are those with at most k
        left, right = (_counts(side.view(np.uint8), self._kind) for side in stays)
        most = np.minimum(left[-1], right[-1])
        ranks = np.where(stays[0], self._ranks, self._kind.type(np.iinfo(self._kind).max))
        for k in ks:
            size = np.minimum(k, most).astype(self._kind)
            reach = (right <= size).view(np.uint8).sum(0, dtype=self._kind)  # right ranks below are in
            both = (left <= size) & (ranks < reach)
            yield both.view(np.uint8).sum(0, dtype=self._kind).astype(np.int64), size.astype(np.int64)


def _counts(stays: Array, kind: np.dtype[Any]) -> Array:
    """Sums of rows so far; numpy's own `cumsum` goes down one column after the other."""
    counts = stays.astype(kind)
    for row in range(1, len(counts)):
        counts[row] += counts[row - 1]
    return counts


def _ranks(left: Array, right: Array, tokens: int, kind: np.dtype[Any]) -> Array:
    """For each left neighbour its rank among the right ones, or the greatest number: (tokens, neighbours)."""
    none = np.iinfo(kind).max
    ranks = np.empty(left.shape, kind)
    # one cell for each token and each that could be its neighbour, the last for what is none
    step = max(1, TABLE // tokens)
    table = np.full((step, tokens + 1), none, kind)
    for start in range(0, len(left), step):
        mine, theirs = left[start : start + step], right[start : start + step]
        rows = np.arange(len(mine))[:, None]
        table[rows, theirs] = np.arange(right.shape[1], dtype=kind)
        table[:, -1] = none
        ranks[start : start + step] = table[rows, mine]
        table[rows, theirs] = none
    return ranks


def _add(
    rows: Rows, overlap: Overlap, k: int, layers: tuple[int, int] | None, statistic: str = "mean", **more: Any
) -> None:
    for measure in MEASURES:
        values, excess = overlap.means(measure), overlap.excess(measure)
        rows.add_jackknifed(measure, statistic, values, layers, excess, k=k, **more)


def _add_means(rows: Rows, by_layer: list[Overlap], k: int) -> None:
    """The mean over layers, of either preset."""
    for preset, layers in rows.layers_of_means(len(by_layer)).items():
        _add(rows, mean_of([by_layer[i] for i in layers]), k, None, "mean_over_layers", preset=preset)
