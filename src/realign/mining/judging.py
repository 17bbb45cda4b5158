"""From the pool of a query to the fate of each candidate of each row that asks it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from realign.mining.collection import Collection
from realign.mining.filters import CODE, Candidates, Codes, Pairs, judge
from realign.mining.pool import Pool
from realign.seeds import derive_seed
from realign.study.mining import MineJob
from realign.text.pairs import PairRow
from realign.vectors.rows import Rows


@dataclass(frozen=True)
class Blank:
    """Whose vectors are zero: every text is as near to them as any other."""

    queries: np.ndarray
    passages: np.ndarray

    @classmethod
    def among(cls, queries: np.ndarray, passages: np.ndarray) -> "Blank":
        """Look through the vectors of both sides."""
        return cls(Rows(queries, "queries").norms() == 0, Rows(passages, "passages").norms() == 0)


def judge_pool(
    collection: Collection, pool: Pool, blank: Blank, settings: MineJob, range_max: int
) -> tuple[np.ndarray, Candidates, Codes]:
    """The rows that ask the pool's queries, their candidates, and what becomes of these."""
    rows = np.flatnonzero(
        (collection.row_query >= pool.first) & (collection.row_query < pool.first + len(pool.scores))
    )
    block = candidates_of(collection, rows, pool, blank, settings)
    return rows, block, judge(block, settings, range_max)


@dataclass(frozen=True)
class Picked:
    """What rows get, nearest first: a row, a passage, its place in the row's pool, its score and margin."""

    rows: np.ndarray
    passages: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray
    margins: np.ndarray  # the least score of the query's positives, less its own

    @classmethod
    def of(cls, rows: np.ndarray, block: Candidates, codes: Codes) -> "Picked":
        """What the rows of a judged block get."""
        row, rank = np.nonzero((codes == CODE["kept"]) | (codes == CODE["relaxed"]))
        scores = block.scores[row, rank]
        margins = block.least_positive[row] - scores
        return cls(rows[row], block.passages[row, rank], rank, scores, margins)

    @classmethod
    def join(cls, parts: Sequence["Picked"]) -> "Picked":
        """What all blocks gave, row by row."""
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows, kind="stable")
        names = [one.name for one in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts])[order] for name in names))


def candidates_of(
    collection: Collection, rows: np.ndarray, pool: Pool, blank: Blank, settings: MineJob
) -> Candidates:
    """The candidates of some rows, with everything that decides about them."""
    queries = collection.row_query[rows]
    own = queries - pool.first
    passages = pool.passages[own]
    asker, positives = collection.query_positives.pairs(queries)
    count = int(collection.passage_class.max()) + 1
    seeds = None
    if settings.choose == "random":
        seeds = np.array([_seed_of(settings, collection.rows[row]) for row in rows])
    present = np.array([len(collection.rows[row].negatives) for row in rows])
    return Candidates(
        pool.scores[own],
        passages,
        np.where(passages < 0, -1, collection.passage_class[passages]),
        blank.queries[queries][:, None] | blank.passages[passages],
        pool.least[own],
        np.maximum(settings.negatives - present, 0),
        Pairs(asker, collection.passage_class[positives], count),
        collection.query_class[queries],
        Pairs(*collection.row_existing.pairs(rows), count),
        seeds,
    )


def _seed_of(settings: MineJob, row: PairRow) -> int:
    return derive_seed(settings.seed, "negatives", settings.dataset, row.query, *row.positives)
