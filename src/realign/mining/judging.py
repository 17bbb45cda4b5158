"""From the pool of a query to the fate of each candidate of each row that asks it."""

from dataclasses import dataclass
from itertools import pairwise

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


def picked(block: Candidates, codes: Codes) -> list[list[int]]:
    """The passages that each row gets, nearest first."""
    which = (codes == CODE["kept"]) | (codes == CODE["relaxed"])
    taken, ends = block.passages[which].tolist(), np.cumsum(which.sum(axis=1)).tolist()
    return [taken[start:end] for start, end in pairwise([0, *ends])]


def candidates_of(
    collection: Collection, rows: np.ndarray, pool: Pool, blank: Blank, settings: MineJob
) -> Candidates:
    """The candidates of some rows, with everything that decides about them."""
    queries = collection.row_query[rows]
    own = queries - pool.first
    passages = pool.passages[own]
    positives = [collection.query_positives.of(q) for q in queries]
    existing = [collection.row_existing.of(row) for row in rows]
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
        Pairs(*_flat(positives, collection.passage_class), count),
        collection.query_class[queries],
        Pairs(*_flat(existing), count),
        seeds,
    )


def _seed_of(settings: MineJob, row: PairRow) -> int:
    return derive_seed(settings.seed, "negatives", settings.dataset, row.query, *row.positives)


def _flat(lists: list[np.ndarray], through: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Lists as pairs of (which list, value)."""
    owner = np.repeat(np.arange(len(lists)), [len(x) for x in lists])
    values = np.concatenate(lists) if lists else np.empty(0, np.int64)
    return owner, values if through is None else through[values]
