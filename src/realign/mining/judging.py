"""From the pool of a query to the fate of each candidate of each row that asks it."""

from dataclasses import dataclass

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


def picked(block: Candidates, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """What the rows get, nearest first, as pairs of (which row of the block, passage)."""
    which = (codes == CODE["kept"]) | (codes == CODE["relaxed"])
    return np.nonzero(which)[0], block.passages[which]


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
