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
from realign.vectors.search import iter_top_k

log = logging.getLogger(__name__)
METRICS = {"cosine": "cosine", "euclidean": "l2"}
ROWS = 4096  # queries whose lists are compared at a time


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
    answers = iter_top_k(vectors, vectors, fetched, METRICS[metric], exclude_self=True)  # type: ignore[arg-type]
    for start, _, places in answers:
        rows = slice(start, start + len(places))
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
    for start, ranks in _ranks(left, right):
        rows = slice(start, start + len(ranks))
        own = groups.of_row[rows]
        places = [side[rows] for side in (left, right)]
        of_neighbour = [np.where(p >= 0, groups.of_row[p], -1) for p in places]
        for left_out in range(-1, groups.count):
            stay = own != left_out
            remaining = _Remaining(places, of_neighbour, ranks, left_out)
            for k in ks:
                shared, size = remaining.shared(k)
                of = {
                    "knn_overlap": shared / np.maximum(2 * size - shared, 1),
                    "mutual_knn": shared / np.maximum(size, 1),
                }
                for measure, values in of.items():
                    by_group = np.bincount(own, np.where(stay, values, 0), minlength=groups.count)
                    found[k].sums[measure][left_out + 1] += by_group
    return found


def _ranks(left: Array, right: Array) -> Iterator[tuple[int, Array]]:
    """For each left neighbour its rank among the right ones, or -1; some rows at a time."""
    width = right.shape[1]
    for start in range(0, len(left), ROWS):
        mine, theirs = left[start : start + ROWS], right[start : start + ROWS]
        rows = np.arange(len(mine))[:, None]
        order = np.argsort(theirs, axis=1, kind="stable")
        # one sorted list for all rows: a row's offset keeps its places apart from the others'
        step = max(int(left.max()), int(right.max())) + 2
        keys = (np.take_along_axis(theirs, order, 1) + 1 + rows * step).ravel()
        wanted = (mine + 1 + rows * step).ravel()
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = (keys[at] == wanted).reshape(mine.shape) & (mine >= 0)
        ranks = order.ravel()[at].reshape(mine.shape)
        yield start, np.where(hit, ranks, -1).astype(np.int32) if width else np.full(mine.shape, -1)


class _Remaining:
    """Neighbour lists of some tokens with a group's tokens taken out, and where each now stands."""

    def __init__(self, places: list[Array], of_neighbour: list[Array], ranks: Array, left_out: int):
        kept = [(p >= 0) & (g != left_out) for p, g in zip(places, of_neighbour, strict=True)]
        # 1 for the first that remains
        mine, theirs = (np.cumsum(stays, axis=1, dtype=np.int32) for stays in kept)
        self._most = np.minimum(mine[:, -1], theirs[:, -1])
        found = kept[0] & (ranks >= 0)
        self._row, column = np.nonzero(found)
        of_theirs = theirs[self._row, ranks[self._row, column]]
        self._needed = np.maximum(mine[self._row, column], of_theirs)  # the k from which both hold it

    def shared(self, k: int) -> tuple[Array, Array]:
        """How many of the first k neighbours are shared, and how many there are to share."""
        size = np.minimum(k, self._most)
        both = self._row[self._needed <= size[self._row]]
        return np.bincount(both, minlength=len(size)), size


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
