"""Similarities in float64, summed in one fixed order: the numbers that decide every ranking.

A matrix product may sum in another order for another block size, thread count or device, and then
ties fall differently. Here each pair's products are summed by numpy's pairwise scheme along the
row, which depends on the row's length alone.
"""

from typing import Literal

import numpy as np

from realign.vectors.rows import Floats

Metric = Literal["ip", "cosine", "l2"]


def pair_scores(
    query: Floats, rows: np.ndarray, metric: Metric, query_norm: float | Floats, norms: Floats
) -> Floats:
    """How close each row, of any type, is to the query; larger is closer.

    `ip` is the inner product, `cosine` the same over both lengths (0 where one of them is 0), `l2`
    the negated squared distance. Many queries are answered at once where they broadcast to the rows.
    """
    if metric == "l2":
        difference = rows - query
        np.multiply(difference, difference, out=difference)
        return -np.sum(difference, axis=-1)
    products = np.sum(rows * query, axis=-1)
    if metric == "ip":
        return products
    lengths = norms * query_norm
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def best_first(scores: Floats, places: np.ndarray, k: int) -> np.ndarray:
    """Which entries of each list are the k best: by score, and among equal scores by place."""
    return np.lexsort((places, -scores))[..., :k]
