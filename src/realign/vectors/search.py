"""Exact nearest neighbours in blocks: the same answer for any block size, device and thread count.

A coarse pass in low precision proposes candidates and a bound on everything it left out; float64
scores in a fixed order then decide, ties going to the lower index. Where the bound does not prove
that a query's answer is complete, the query climbs to a finer precision and at last to an
exhaustive float64 pass, so the answer is always exact. Memory is bounded by the block sizes and by
what may be kept prepared, not by the size of the corpus.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from realign.vectors.exact import Metric, best_first, pair_scores
from realign.vectors.rows import Distinct, Floats, Matrix, Places, Rows, find_distinct
from realign.vectors.scan import Found, Scan, fast_precision

QUERY_BLOCK = 2048
CORPUS_BLOCK = 16384
# What may be kept prepared: so much in memory, and this share of what is free on a GPU.
KEEP_GB, KEEP_SHARE = 1.0, 0.5
# A precision that leaves more than this share of a block unproved is not tried on later blocks.
PATIENCE = 0.25


def top_k(
    queries: Matrix,
    corpus: Matrix,
    k: int,
    metric: Metric = "ip",
    query_block: int = QUERY_BLOCK,
    corpus_block: int = CORPUS_BLOCK,
    exclude_self: bool = False,
    device: str | torch.device | Sequence[str | torch.device] | None = None,
    keep_gb: float | None = None,
) -> tuple[Floats, Places]:
    """The k nearest rows of the corpus for each query: scores (float64) and indices, nearest first.

    Larger scores are closer: the inner product (`ip`), the `cosine`, or the negated squared
    distance (`l2`); equal scores are ordered by index. `exclude_self` leaves out row i for query i
    (the queries are then the corpus). Takes numpy arrays, memory maps and torch tensors. Where the
    corpus has fewer than k rows to offer, index -1 and score -inf fill the row.
    """
    parts = iter_top_k(queries, corpus, k, metric, query_block, corpus_block, exclude_self, device, keep_gb)
    scores = np.empty((len(queries), k))
    places = np.empty((len(queries), k), np.int64)
    for start, part_scores, part_places in parts:
        scores[start : start + len(part_scores)] = part_scores
        places[start : start + len(part_places)] = part_places
    return scores, places


def iter_top_k(
    queries: Matrix,
    corpus: Matrix,
    k: int,
    metric: Metric = "ip",
    query_block: int = QUERY_BLOCK,
    corpus_block: int = CORPUS_BLOCK,
    exclude_self: bool = False,
    device: str | torch.device | Sequence[str | torch.device] | None = None,
    keep_gb: float | None = None,
) -> Iterator[tuple[int, Floats, Places]]:
    """`top_k` block by block, for answers that should not be held whole: (first query, scores, indices)."""
    search = Search(corpus, k, metric, corpus_block, device, keep_gb)
    wanted = Rows(queries, "queries")
    if exclude_self and len(wanted) != len(search.rows):
        raise ValueError("exclude_self needs the queries to be the corpus, row by row")
    yield from search.run(wanted, query_block, exclude_self)


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
        self, queries: Rows, query_block: int = QUERY_BLOCK, exclude_self: bool = False
    ) -> Iterator[tuple[int, Floats, Places]]:
        """Answers for blocks of queries, in order: (first query, scores, indices)."""
        if query_block < 1:
            raise ValueError(f"the block sizes must be positive, got query_block={query_block}")
        if queries.width != self.rows.width:
            raise ValueError(
                f"queries have {queries.width} values in a row, the corpus has {self.rows.width}"
            )
        norms = queries.norms()
        starts = range(0, len(queries), query_block)

        def answer(turn: int) -> tuple[Floats, Places]:
            which = slice(starts[turn], min(starts[turn] + query_block, len(queries)))
            worker = self.workers[turn % len(self.workers)]
            return worker.answer(queries.read(which), norms[which], starts[turn], exclude_self)

        for first in range(0, len(starts), len(self.workers)):
            turns = range(first, min(first + len(self.workers), len(starts)))
            if len(self.workers) == 1:
                answers = [answer(first)]
            else:
                with ThreadPoolExecutor(len(self.workers)) as pool:
                    answers = list(pool.map(answer, turns))
            for turn, (scores, places) in zip(turns, answers, strict=True):
                yield starts[turn], scores, places


@dataclass
class _Worker:
    """One device's share of a search: its prepared corpora, coarse to fine."""

    search: Search
    device: torch.device
    block: int
    keep_bytes: float
    _scans: dict[torch.dtype, Scan] = field(default_factory=dict)
    _given_up: set[torch.dtype] = field(default_factory=set)

    def answer(self, queries: Floats, norms: Floats, first: int, exclude_self: bool) -> tuple[Floats, Places]:
        """The exact answer for one block of queries."""
        k = self.search.k
        # One more, since a query's own place is taken out of the answer only at the end.
        wanted = min(k + exclude_self, len(self.search.once))
        once: list[tuple[Floats, Places] | None] = [None] * len(queries)
        open_ = np.arange(len(queries))
        for precision, width in self._ladder(wanted):
            if precision in self._given_up or not len(open_):
                continue
            found = self._scan(precision).search(queries[open_], norms[open_], width)
            proved = self._decide(found, queries, norms, open_, wanted, once)
            if len(open_) >= 64 and np.mean(~proved) > PATIENCE and precision != torch.float64:
                self._given_up.add(precision)
                self._scans.pop(precision)
            open_ = open_[~proved]
        for row in map(int, open_):
            once[row] = self._exhaust(queries[row], norms[row], wanted)
        scores = np.full((len(queries), k), -np.inf)
        places = np.full((len(queries), k), -1, np.int64)
        for row, answer in enumerate(once):
            assert answer is not None
            own = first + row if exclude_self else -1
            row_scores, row_places = _expand(self.search.distinct, answer, k, own)
            scores[row, : len(row_scores)] = row_scores
            places[row, : len(row_places)] = row_places
        return scores, places

    def _ladder(self, wanted: int) -> Iterator[tuple[torch.dtype, int]]:
        """Precisions to try, coarse to fine, and how many candidates to keep at each."""
        if self.search.metric != "l2":  # whose squares lose too much in low precision
            fast = fast_precision(self.device)
            if fast != torch.float32:
                yield fast, 2 * wanted + 32
        yield torch.float32, wanted + wanted // 4 + 32
        yield torch.float64, 4 * wanted + 64

    def _scan(self, precision: torch.dtype) -> Scan:
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
        which: Places,
        wanted: int,
        once: list[tuple[Floats, Places] | None],
    ) -> np.ndarray:
        """Rescore the candidates of some queries; says which answers are proved, and notes those."""

        def decide_all(turns: Sequence[int]) -> list[bool]:
            return [decide(turn) for turn in turns]

        def decide(turn: int) -> bool:
            row = int(which[turn])
            # What cannot reach the best `wanted` lower limits cannot be in the answer.
            enough = np.partition(found.least[turn], -wanted)[-wanted]
            places = found.places[turn][found.worth[turn] >= enough]
            scores = self._scores(queries[row], norms[row], places)
            best = best_first(scores, places, wanted)
            if scores[best[-1]] <= found.unseen[turn]:
                return False
            once[row] = scores[best], places[best]
            return True

        threads = torch.get_num_threads()
        if threads == 1 or len(which) < 64:
            return np.array(decide_all(range(len(which))), bool)
        # a task of many queries: handing over a single one costs more than deciding it
        shares = [range(start, min(start + 256, len(which))) for start in range(0, len(which), 256)]
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate([np.array(made, bool) for made in pool.map(decide_all, shares)])

    def _scores(self, query: Floats, norm: float, places: Places) -> Floats:
        rows = self.search.once.raw(places)  # the float64 query widens them, without a copy
        return pair_scores(query, rows, self.search.metric, norm, self.search.norms[places])

    def _exhaust(self, query: Floats, norm: float, wanted: int) -> tuple[Floats, Places]:
        """The answer from every row of the corpus, for queries with more ties than candidates."""
        scores, places = np.empty(0), np.empty(0, np.int64)
        for start, rows in self.search.once.chunks():
            here = np.arange(start, start + len(rows))
            found = pair_scores(query, rows, self.search.metric, norm, self.search.norms[here])
            scores, places = np.concatenate([scores, found]), np.concatenate([places, here])
            best = best_first(scores, places, wanted)
            scores, places = scores[best], places[best]
        return scores, places


def _expand(distinct: Distinct, answer: tuple[Floats, Places], k: int, own: int) -> tuple[Floats, Places]:
    """From distinct rows to all rows: each with every place it occurs at, without the query's own."""
    scores, which = answer
    if own < 0 and not distinct.repeats:
        return answer
    places, owner = distinct.members(which, k + (own >= 0))
    scores = scores[owner]
    if own >= 0:
        others = places != own
        scores, places = scores[others], places[others]
    best = best_first(scores, places, k)
    return scores[best], places[best]


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
