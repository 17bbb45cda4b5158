"""Looking further down the ranking for rows that are short although the corpus may hold more.

Of the nearest passages the filters may refuse so many that a row finds too few. What it still lacks lies
below a ceiling, the greatest score that its margins let pass: the nearest passages below that are added
to its pool, more and more of them, until the row has enough or the corpus holds no more.
"""

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from realign.mining.collection import Collection
from realign.mining.filters import CODE
from realign.mining.judging import Blank, judge_pool
from realign.mining.pool import ExactFinder, Pool
from realign.study.mining import MineJob
from realign.vectors.rows import Rows

log = logging.getLogger(__name__)

WIDEN = 4  # each further look takes so many times as many passages


@dataclass(frozen=True)
class Deeper:
    """Widens the pools of queries whose rows are short."""

    collection: Collection
    finder: ExactFinder
    blank: Blank
    settings: MineJob
    range_max: int

    def widen(self, pool: Pool, queries: Rows) -> Pool:
        """The pool with more candidates for each query that needs them."""
        count, fetched = self.finder.count, pool.passages.shape[1]
        short, wanted = self._lacking(pool), fetched
        # Only before the first look do all rows end where the search ended; later, rows are padded.
        short = short[pool.passages[short, -1] >= 0] if fetched < count else short[:0]
        while len(short):
            ceilings = ceiling(pool.least[short], self.settings) + 1e-9  # the filters decide, not the search
            scores, passages = self.finder.below(queries.subset(short), ceilings, min(wanted, count))
            pool = _joined(pool, short, scores, passages)
            least = -np.inf if self.settings.min_score is None else self.settings.min_score
            more = (passages[:, -1] >= 0) & (scores[:, -1] >= least) & (wanted < count)
            short = np.intersect1d(short[more], self._lacking(pool))
            wanted *= WIDEN
        return pool

    def _lacking(self, pool: Pool) -> np.ndarray:
        """Which of the pool's queries have a row with too few."""
        rows, block, codes = judge_pool(self.collection, pool, self.blank, self._keeping, self.range_max)
        lacks = (codes == CODE["kept"]).sum(axis=1) < block.need
        short = np.unique(self.collection.row_query[rows[lacks]]) - pool.first
        return short[~self.blank.queries[short + pool.first]]  # a blank query's scores say nothing

    @cached_property
    def _keeping(self) -> MineJob:
        """The same rules, where a short row keeps what it found."""
        return self.settings.model_copy(update={"too_few": "keep", "choose": "top"})


def ceiling(least: np.ndarray, settings: MineJob) -> np.ndarray:
    """The greatest score that the margins and the limit let pass, for each least score of positives."""
    limits = [np.full(len(least), np.inf if settings.max_score is None else settings.max_score)]
    if settings.absolute_margin is not None:
        limits.append(least - settings.absolute_margin)
    if settings.relative_margin is not None:
        limits.append(least - np.abs(least) * settings.relative_margin)
    return np.minimum.reduce(limits)


def _joined(pool: Pool, which: np.ndarray, scores: np.ndarray, passages: np.ndarray) -> Pool:
    """The pool with further passages of some queries, nearest first behind those that it has."""
    held = pool.passages[which]
    new = (passages >= 0) & ~np.array([np.isin(p, h) for p, h in zip(passages, held, strict=True)])
    order = np.argsort(~new, axis=1, kind="stable")[:, : new.sum(axis=1).max(initial=0)]
    new = np.take_along_axis(new, order, axis=1)
    count, width = pool.passages.shape
    used = (pool.passages >= 0).sum(axis=1)[which]
    total = max(width, int((used + new.sum(axis=1)).max(initial=0)))
    all_scores = np.full((count, total), -np.inf)
    all_passages = np.full((count, total), -1, np.int32)
    all_scores[:, :width], all_passages[:, :width] = pool.scores, pool.passages
    row, column = np.nonzero(new)
    at = which[row], used[row] + column
    all_scores[at] = np.take_along_axis(scores, order, axis=1)[row, column]
    all_passages[at] = np.take_along_axis(passages, order, axis=1)[row, column]
    return replace(pool, scores=all_scores, passages=all_passages)
