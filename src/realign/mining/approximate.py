"""An approximate search for very large corpora, with its recall measured on the same data.

An inverted-file index (faiss) proposes candidates from the lists nearest to a query; their scores
are then computed in float64 like everybody else's. A sample of queries is also answered exactly,
and a recall below what the study allows stops the work.
"""

import logging
from typing import Any

import numpy as np

from realign.artifacts.command import UserError
from realign.study.mining import Approximate
from realign.vectors.exact import best_first, pair_scores
from realign.vectors.rows import Rows
from realign.vectors.search import Search

log = logging.getLogger(__name__)

# Training points for each list of the index, as faiss recommends.
POINTS_PER_LIST = 64


class ApproximateFinder:
    """An inverted-file index over the passages."""

    def __init__(
        self,
        passages: np.ndarray,
        width: int,
        searched: np.ndarray | None,
        settings: Approximate,
        seed: int,
    ):
        import faiss

        self.width, self.settings, self.seed = width, settings, seed
        self.searched = np.arange(len(passages)) if searched is None else searched
        self.rows = Rows(passages, "passages").subset(self.searched)
        count, size = len(self.rows), self.rows.width
        lists = min(settings.lists or int(4 * np.sqrt(count)), max(1, count // 4))
        index: Any = faiss.index_factory(size, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        self._index = index
        self._index.cp.seed = seed % (1 << 31)
        sample = np.random.default_rng(seed).permutation(count)[: POINTS_PER_LIST * lists]
        self._index.train(self.rows.raw(np.sort(sample)))
        for start in range(0, count, 1 << 16):
            self._index.add(self.rows.raw(slice(start, min(start + (1 << 16), count))))
        self._index.nprobe = min(settings.probes, lists)

    def find(self, queries: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of what the index finds, decided by exact scores."""
        _, found = self._index.search(queries.raw(slice(None)), self.width)
        scores = np.full((len(queries), self.width), -np.inf)
        places = np.full((len(queries), self.width), -1, np.int64)
        for row, query in enumerate(queries.read(slice(None))):
            own = found[row][found[row] >= 0]
            exact = pair_scores(query, self.rows.read(own), "ip", 1.0, np.ones(len(own)))
            best = best_first(exact, own, self.width)
            scores[row, : len(best)], places[row, : len(best)] = exact[best], self.searched[own[best]]
        return scores, places

    def check_recall(self, queries: np.ndarray) -> float:
        """The share of exact neighbours that the index finds; too small a one is an error."""
        sample = np.random.default_rng(self.seed + 1).permutation(len(queries))[: self.settings.sample]
        asked = Rows(queries, "queries").subset(np.sort(sample))
        _, found = self.find(asked)
        exact = np.concatenate([p for _, _, p in Search(self.rows, self.width).run(asked)])
        exact = np.where(exact < 0, -1, self.searched[exact])
        hits = sum(len(np.intersect1d(f[f >= 0], e[e >= 0])) for f, e in zip(found, exact, strict=True))
        recall = hits / max(1, int((exact >= 0).sum()))
        log.info("the approximate index finds %.4f of the exact neighbours", recall)
        if recall < self.settings.least_recall:
            raise UserError(
                f"the approximate index finds {recall:.3f} of the exact neighbours, less than "
                f"least_recall {self.settings.least_recall}; raise approximate.probes"
            )
        return recall
