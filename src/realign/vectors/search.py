"""Exact nearest neighbours in blocks: the same answer for any block size, device and thread count.

A coarse pass in low precision proposes candidates and a bound on everything it left out; float64
scores in a fixed order then decide, ties going to the lower index. Where the bound does not prove
that a query's answer is complete, the query climbs to a finer precision and at last to an
exhaustive float64 pass, so the answer is always exact. Memory is bounded by the block sizes and by
what may be kept prepared, not by the size of the corpus.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from realign.vectors.exact import Metric, best_first, pair_scores
from realign.vectors.rows import Distinct, Floats, Matrix, Places, Rows, find_distinct
from realign.vectors.scan import LONGEST, Found, Scan, fast_precision, full_precision

Turn = TypeVar("Turn")
Result = TypeVar("Result")
QUERY_BLOCK = 1024
CORPUS_BLOCK = 16384
# Where queries are few, threads get smaller blocks than that, but none smaller than this.
LEAST_BLOCK = 256
ROUND = 4  # blocks that a thread answers before all wait for each other
GPU_BLOCKS = 8  # blocks that a GPU's memory holds beside each other
RESCORE_BYTES = 1 << 21  # candidates that are widened at a time: they should stay in a processor's cache
# What may be kept prepared: so much in memory, and this share of what is free on a GPU.
KEEP_GB, KEEP_SHARE = 1.0, 0.5
# A precision that leaves more than this share of a block unproved is not tried on later blocks.
PATIENCE = 0.25
TELLING = 64  # queries, at least, that such a share is told by


def top_k(
    queries: Matrix,
    corpus: Matrix,
    k: int,
    metric: Metric = "ip",
    query_block: int = QUERY_BLOCK,
    corpus_block: int = CORPUS_BLOCK,
    device: str | torch.device | Sequence[str | torch.device] | None = None,
    keep_gb: float | None = None,
) -> tuple[Floats, Places]:
    """The k nearest rows of the corpus for each query: scores (float64) and indices, nearest first.

    Larger scores are closer: the inner product (`ip`), the `cosine`, or the negated squared
    distance (`l2`); equal scores are ordered by index. Takes numpy arrays, memory maps and torch
    tensors. Where the corpus has fewer than k rows to offer, index -1 and score -inf fill the row.
    """
    search = Search(corpus, k, metric, corpus_block, device, keep_gb)
    scores = np.empty((len(queries), k))
    places = np.empty((len(queries), k), np.int64)
    for start, part_scores, part_places in search.run(Rows(queries, "queries"), query_block):
        scores[start : start + len(part_scores)] = part_scores
        places[start : start + len(part_places)] = part_places
    return scores, places


class Search:
    """A corpus made ready to be searched, on one device or on several."""

    def __init__(
        self,
        corpus: Matrix | Rows,
        k: int,
        metric: Metric = "ip",
        corpus_block: int = CORPUS_BLOCK,
        device: str | torch.device | Sequence[str | torch.device] | None = None,
        keep_gb: float | None = None,
    ):
        if k < 1 or corpus_block < 1:
            raise ValueError(
                f"k and the block sizes must be positive, got k={k}, corpus_block={corpus_block}"
            )
        self.rows = corpus if isinstance(corpus, Rows) else Rows(corpus, "corpus")
        self.k, self.metric = k, metric
        self.distinct = find_distinct(self.rows)
        self.once = self.rows.subset(self.distinct.first)  # each distinct row once
        self.norms = self.once.norms()
        self.workers = [
            _Worker(self, torch.device(d), corpus_block, _keep_bytes(torch.device(d), keep_gb))
            for d in _devices(device)
        ]

    def run(
        self, queries: Rows, query_block: int = QUERY_BLOCK, below: Floats | None = None, k: int | None = None
    ) -> Iterator[tuple[int, Floats, Places]]:
        """Answers for blocks of queries, in order: (first query, scores, indices).

        With a score for each query in `below`, the nearest of the rows that score no more than that.
        """
        k = k or self.k
        if below is not None and self.metric == "l2":
            raise ValueError("a search below a score is for the inner product and the cosine")
        if query_block < 1:
            raise ValueError(f"the block sizes must be positive, got query_block={query_block}")
        if queries.width != self.rows.width:
            raise ValueError(
                f"queries have {queries.width} values in a row, the corpus has {self.rows.width}"
            )
        norms = queries.norms()
        threads = self._threads()
        block = min(query_block, max(LEAST_BLOCK, -(-len(queries) // threads)))
        starts = range(0, len(queries), block)

        def answer(turn: int) -> tuple[Floats, Places]:
            which = slice(starts[turn], min(starts[turn] + block, len(queries)))
            worker = self.workers[turn % len(self.workers)]
            ceilings = None if below is None else below[which]
            return worker.answer(queries.read(which), norms[which], ceilings, k)

        for first in range(0, len(starts), ROUND * threads):
            turns = range(first, min(first + ROUND * threads, len(starts)))
            for turn, (scores, places) in zip(turns, in_threads(answer, turns, threads), strict=True):
                yield starts[turn], scores, places

    def _threads(self) -> int:
        """How many blocks of queries are searched at once: the processor rescores beside a GPU's scan."""
        least, most = len(self.workers), torch.get_num_threads()
        on_gpu = any(worker.device.type != "cpu" for worker in self.workers)
        return max(least, min(most, GPU_BLOCKS * least) if on_gpu else most)


@dataclass
class _Worker:
    """One device's share of a search: its prepared corpora, coarse to fine."""

    search: Search
    device: torch.device
    block: int
    keep_bytes: float
    _scans: dict[torch.dtype, Scan] = field(default_factory=dict)
    _given_up: set[torch.dtype] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(
        self, queries: Floats, norms: Floats, ceilings: Floats | None, k: int
    ) -> tuple[Floats, Places]:
        """The exact answer for one block of queries."""
        wanted = min(k, len(self.search.once))
        scores, places = np.empty((len(queries), wanted)), np.empty((len(queries), wanted), np.int64)
        open_ = np.arange(len(queries))
        longest = max(norms.max(initial=0), self.search.norms.max(initial=0))
        for precision, width in self._ladder(wanted, longest):
            if precision in self._given_up or not len(open_):
                continue
            limits = None if ceilings is None else ceilings[open_]
            found = self._scan(precision).search(queries[open_], norms[open_], width, limits)
            proved = self._decide(found, queries, norms, limits, open_, scores, places)
            if len(open_) >= TELLING and np.mean(~proved) > PATIENCE and precision != torch.float64:
                self._give_up(precision)
            open_ = open_[~proved]
        for row in map(int, open_):
            scores[row], places[row] = self._exhaust(
                queries[row], norms[row], np.inf if ceilings is None else ceilings[row], wanted
            )
        scores, places = expand(self.search.distinct, scores, places, k)
        if ceilings is not None:
            places[np.isneginf(scores)] = -1
        return scores, places

    def _ladder(self, wanted: int, longest: float) -> Iterator[tuple[torch.dtype, int]]:
        """Precisions to try, coarse to fine, and how many candidates to keep at each.

        More than are wanted, so that what is left out is provably worse: the coarser, the more. What
        float32 does not prove are many near ties, and float64 needs room for those.
        """
        if longest >= LONGEST:
            yield torch.float64, 4 * wanted + 64
            return
        if self.search.metric != "l2":  # whose squares lose too much in low precision
            fast = fast_precision(self.device)
            if fast != torch.float32:
                yield fast, 2 * wanted + 32
        yield torch.float32, wanted + 32
        yield torch.float64, 4 * wanted + 64

    def _give_up(self, precision: torch.dtype) -> None:
        with self._lock:
            self._given_up.add(precision)
            self._scans.pop(precision, None)

    def _scan(self, precision: torch.dtype) -> Scan:
        with self._lock:
            if precision not in self._scans:
                s = self.search
                self._scans[precision] = Scan(
                    s.once, s.norms, s.metric, precision, self.device, self.block, self.keep_bytes
                )
            return self._scans[precision]

    def _decide(
        self,
        found: Found,
        queries: Floats,
        norms: Floats,
        ceilings: Floats | None,
        which: Places,
        scores: Floats,
        places: Places,
    ) -> np.ndarray:
        """Rescore the candidates of some queries into the answers; says which of these are proved."""
        wanted = scores.shape[1]
        # What cannot reach the best `wanted` lower limits of what may be in the answer cannot be in it.
        least = found.least
        if ceilings is not None:
            least = np.where(found.worth <= ceilings[:, None], least, -np.inf)
        enough = np.partition(least, -wanted, axis=1)[:, -wanted, None]
        likely = (found.worth >= enough).sum(axis=1)
        order = np.argsort(-found.worth, axis=1)
        nearest = np.take_along_axis(found.places, order, axis=1)
        step = max(1, RESCORE_BYTES // (8 * queries.shape[1] * wanted))
        for start in range(0, len(which), step):
            some = slice(start, start + step)
            rows, near = which[some], nearest[some, : likely[some].max()]
            exact = self._scores(queries[rows], norms[rows], near)
            if ceilings is not None:
                worth = np.take_along_axis(found.worth[some], order[some, : near.shape[1]], axis=1)
                exact[(exact > ceilings[some, None]) | np.isneginf(worth)] = -np.inf
            best = best_first(exact, near, wanted)
            scores[rows] = np.take_along_axis(exact, best, axis=1)
            places[rows] = np.take_along_axis(near, best, axis=1)
        return (scores[which, -1] > found.unseen) | np.isneginf(found.unseen)

    def _scores(self, queries: Floats, norms: Floats, places: Places) -> Floats:
        rows = torch.from_numpy(self.search.once.raw(places)).double().numpy()  # widened faster than by numpy
        return pair_scores(
            queries[:, None], rows, self.search.metric, norms[:, None], self.search.norms[places]
        )

    def _exhaust(self, query: Floats, norm: float, ceiling: float, wanted: int) -> tuple[Floats, Places]:
        """The answer from every row of the corpus, for queries with more ties than candidates."""
        scores, places = np.empty(0), np.empty(0, np.int64)
        for start, rows in self.search.once.chunks():
            here = np.arange(start, start + len(rows))
            found = pair_scores(query, rows, self.search.metric, norm, self.search.norms[here])
            found[found > ceiling] = -np.inf
            scores, places = np.concatenate([scores, found]), np.concatenate([places, here])
            best = best_first(scores, places, wanted)
            scores, places = scores[best], places[best]
        return scores, places


def expand(
    distinct: Distinct, scores: Floats, places: Places, k: int, own: Places | None = None
) -> tuple[Floats, Places]:
    """From distinct rows to all rows: each with every place it occurs at.

    Where the queries are rows of the corpus, each is without its `own` place.
    """
    all_scores = np.full((len(scores), k), -np.inf)
    all_places = np.full((len(scores), k), -1, np.int64)
    if not distinct.repeats:
        if own is not None:
            out = places == own[:, None]
            out[~out.any(axis=1), -1] = True  # what is farthest goes where the own place is not there
            scores, places = (a[~out].reshape(len(a), a.shape[1] - 1) for a in (scores, places))
        all_scores[:, : scores.shape[1]], all_places[:, : scores.shape[1]] = scores, places
        return all_scores, all_places
    held = k + (own is not None)
    # what is farther than the first so many places is not in the answer
    counts = np.minimum(distinct.starts[places + 1] - distinct.starts[places], held)
    last = np.minimum((np.cumsum(counts, axis=1) < held).sum(axis=1), scores.shape[1] - 1)
    near = scores >= np.take_along_axis(scores, last[:, None], axis=1)
    members, owner = distinct.members(places[near], held)
    row, worth = np.nonzero(near)[0][owner], scores[near][owner]
    if own is not None:
        others = members != own[row]
        row, worth, members = row[others], worth[others], members[others]
    order = np.lexsort((members, -worth, row))
    row, worth, members = row[order], worth[order], members[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(len(scores)))[row]
    answer = rank < k
    at = row[answer], rank[answer]
    all_scores[at], all_places[at] = worth[answer], members[answer]
    return all_scores, all_places


def in_threads(task: Callable[[Turn], Result], turns: Sequence[Turn], threads: int) -> list[Result]:
    """A task's results in order: each thread takes turns of its own, and multiplies alone.

    Threads that shared every product would wait for the slowest of them at each step.
    """
    with full_precision():
        if min(threads, len(turns)) <= 1:
            return list(map(task, turns))
        before = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return list(pool.map(task, turns))
        finally:
            torch.set_num_threads(before)  # for threads that begin later, too


def _keep_bytes(device: torch.device, keep_gb: float | None) -> float:
    if keep_gb is None and device.type == "cuda":
        return KEEP_SHARE * torch.cuda.mem_get_info(device)[0]
    return (KEEP_GB if keep_gb is None else keep_gb) * 2**30


def _devices(
    device: str | torch.device | Sequence[str | torch.device] | None,
) -> list[str | torch.device]:
    if device is None:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [f"cuda:{i}" for i in range(count)] or ["cpu"]
    return [device] if isinstance(device, str | torch.device) else list(device)
