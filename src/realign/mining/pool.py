"""The nearest passages of every query, found shard by shard and kept until the work is done.

A shard is written whole or not at all, so a killed job goes on with the first one that is missing.
Scores are those that decide: the teacher's inner products in float64, or a cross-encoder's.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from realign.artifacts.files import write_whole
from realign.engine.progress import Progress
from realign.mining.collection import Collection
from realign.vectors.exact import pair_scores
from realign.vectors.rows import Rows
from realign.vectors.search import Search

log = logging.getLogger(__name__)

SHARD_QUERIES = 8192
SCORED_AT_ONCE = 1024


@dataclass(frozen=True)
class Pool:
    """What was found for some queries, best first, and the scores of their positives."""

    first: int  # the first query
    scores: np.ndarray  # float64 (queries, width), -inf where there is no passage
    passages: np.ndarray  # int32 (queries, width), -1 where there is none
    positives: np.ndarray  # float64, the scores of the queries' positives, query by query
    least: np.ndarray  # float64, the least of them for each query


class Finder(Protocol):
    """Finds the nearest rows for a block of queries: scores and places, nearest first."""

    def find(self, queries: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The answer for all of them."""
        ...


class ExactFinder:
    """The exact search, over all passages or over those that may be negatives."""

    def __init__(self, passages: np.ndarray, width: int, searched: np.ndarray | None):
        self.width, self.searched = width, searched
        corpus = passages if searched is None else Rows(passages, "passages").subset(searched)
        self._search = Search(corpus, width)
        self.count = len(self._search.rows)  # passages that are searched

    def find(self, queries: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The exact answer."""
        return self.below(queries, None, self.width)

    def below(self, queries: Rows, ceilings: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest passages that score no more than each query's ceiling."""
        parts = list(self._search.run(queries, below=ceilings, k=count))
        scores = np.concatenate([scores for _, scores, _ in parts])
        places = np.concatenate([places for _, _, places in parts])
        if self.searched is not None:
            places = np.where(places < 0, -1, self.searched[places])
        return scores, places


class Widens(Protocol):
    """Adds candidates to the pool of queries that need them."""

    def widen(self, pool: "Pool", queries: Rows) -> "Pool":
        """The pool with more candidates for each query that needs them."""
        ...


class CrossEncoder(Protocol):
    """Scores pairs of texts."""

    def predict(self, pairs: list[tuple[str, str]], **options: Any) -> np.ndarray:
        """A score for each pair."""
        ...


def find_pools(
    collection: Collection,
    queries: np.ndarray,
    passages: np.ndarray,
    finder: Finder,
    folder: Path,
    cross_encoder: CrossEncoder | None = None,
    deeper: Widens | None = None,
) -> Iterator[Pool]:
    """The pools of all queries, in order, from finished shards where there are some."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(queries, "queries")
    with Progress("search", len(rows), "queries") as told:
        for first in range(0, len(rows), SHARD_QUERIES):
            path = folder / f"pool-{first}.npz"
            which = np.arange(first, min(first + SHARD_QUERIES, len(rows)))
            if not path.is_file():
                asked = rows.subset(which)
                pool = _find(collection, asked, which, passages, finder, cross_encoder)
                _write(path, pool if deeper is None else deeper.widen(pool, asked))
            told.advance(len(which))
            yield _read(path, first)


def _find(
    collection: Collection,
    queries: Rows,
    which: np.ndarray,
    passages: np.ndarray,
    finder: Finder,
    cross_encoder: CrossEncoder | None,
) -> Pool:
    scores, places = finder.find(queries)
    owner, own = collection.query_positives.pairs(which)
    sizes = np.bincount(owner, minlength=len(which))
    if cross_encoder is None:
        of_positives = _score_pairs(queries, owner, passages, own)
    else:
        scores, places, of_positives = _rescore(collection, which, scores, places, cross_encoder)
    least = np.minimum.reduceat(of_positives, np.cumsum(sizes) - sizes)
    return Pool(int(which[0]), scores, places.astype(np.int32), of_positives, least)


def _score_pairs(
    queries: Rows, of_queries: np.ndarray, passages: np.ndarray, of_passages: np.ndarray
) -> np.ndarray:
    """The inner products of pairs, some at a time."""
    held, scores = Rows(passages, "passages"), np.empty(len(of_passages))
    for start in range(0, len(scores), SCORED_AT_ONCE):
        some = slice(start, start + SCORED_AT_ONCE)
        rows = held.raw(of_passages[some])
        scores[some] = pair_scores(queries.read(of_queries[some]), rows, "ip", 1.0, np.ones(len(rows)))
    return scores


def _rescore(
    collection: Collection,
    which: np.ndarray,
    scores: np.ndarray,
    places: np.ndarray,
    cross_encoder: CrossEncoder,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same candidates with a cross-encoder's scores, in their new order."""
    scores, places = scores.copy(), places.copy()
    of_positives = []
    for row, query in enumerate(which.tolist()):
        own = collection.query_positives.of(query)
        found = np.flatnonzero(places[row] >= 0)
        texts = [collection.passages[p] for p in [*own.tolist(), *places[row, found].tolist()]]
        asked = [(collection.queries[query], text) for text in texts]
        given = np.asarray(cross_encoder.predict(asked, show_progress_bar=False), np.float64).reshape(-1)
        of_positives.append(given[: len(own)])
        order = np.lexsort((places[row, found], -given[len(own) :]))
        scores[row, found] = given[len(own) :][order]
        places[row, found] = places[row, found][order]
    return scores, places, np.concatenate(of_positives)


def _write(path: Path, pool: Pool) -> None:
    write_whole(
        path,
        lambda stream: np.savez(
            stream, scores=pool.scores, passages=pool.passages, positives=pool.positives, least=pool.least
        ),
    )


def _read(path: Path, first: int) -> Pool:
    with np.load(path) as held:
        return Pool(first, held["scores"], held["passages"], held["positives"], held["least"])
