"""Which tokens of a corpus are kept: evenly by text, by seed, and known before any model runs.

The choice depends on the number of tokens in each text and on the seed alone, so all models that
tokenize a corpus alike keep the same tokens, and files can be compared row by row.
"""

from collections.abc import Sequence

import numpy as np

from realign.seeds import derive_seed
from realign.study.states import TokenSelection


def select_tokens(
    counts: Sequence[int], selection: TokenSelection, seed: int, corpus: str
) -> list[np.ndarray]:
    """The kept positions of each text, ascending."""
    available = [max(0, count - selection.skip_first) for count in counts]
    quotas = available if selection.count is None else _quotas(available, selection.count, seed, corpus)
    return [
        _draw(have, take, derive_seed(seed, "token selection", corpus, text)) + selection.skip_first
        for text, (have, take) in enumerate(zip(available, quotas, strict=True))
    ]


def _draw(have: int, take: int, seed: int) -> np.ndarray:
    if take >= have:
        return np.arange(have, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(have, size=take, replace=False)).astype(np.int64)


def _quotas(available: Sequence[int], count: int, seed: int, corpus: str) -> list[int]:
    """Equal shares of `count`; what short texts cannot give, the longer ones do.

    What does not divide evenly goes, a token each, to texts drawn by seed.
    """
    if count >= sum(available):
        return list(available)
    quotas, left = [0] * len(available), count
    open_texts = [i for i, have in enumerate(available) if have]
    while left >= len(open_texts):
        share = left // len(open_texts)
        for i in open_texts:
            given = min(share, available[i] - quotas[i])
            quotas[i] += given
            left -= given
        open_texts = [i for i in open_texts if quotas[i] < available[i]]
    order = np.random.default_rng(derive_seed(seed, "token remainder", corpus)).permutation(len(open_texts))
    for j in order[:left]:
        quotas[open_texts[j]] += 1
    return quotas
