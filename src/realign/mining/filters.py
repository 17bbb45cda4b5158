"""What becomes of each candidate: refused and why, chosen, or not needed.

All candidates of a block of rows are judged at once. The order of the reasons is the order of the
checks: a candidate carries the first reason that applies to it.
"""

from dataclasses import dataclass

import numpy as np

from realign.artifacts.command import UserError
from realign.study.mining import MiningSettings

REASONS = (
    "kept",
    "relaxed",  # kept although a filter refused it, because the row had too few
    "no_vector",  # the query's vector or its own is zero, so its score says nothing
    "positive",  # a positive of the query, or the same text
    "query",  # the same text as the query
    "existing",  # the row has it already
    "absolute_margin",
    "relative_margin",
    "max_score",
    "min_score",
    "repeated",  # the same text as a nearer one that nothing speaks against
    "range_min",
    "range_max",
    "spare",  # nothing against it, but the row has enough
    "short",  # nothing against it, but the row has too few and is dropped, or stays as it was
    "none",  # no candidate: the corpus is smaller than the pool
)
CODE = {name: code for code, name in enumerate(REASONS)}

Codes = np.ndarray  # int8, (rows, pool)


@dataclass(frozen=True)
class Window:
    """How far down the ranking mining looks."""

    range_max: int
    pool: int  # nearest passages that are fetched for each query


def window_of(settings: MiningSettings, rows: int, most_positives: int, cross_encoder: bool) -> Window:
    """The window for a dataset. The pool leaves room for as many positives as any query has."""
    s = settings
    if s.range_max is not None:
        range_max = s.range_max
    else:
        scored = cross_encoder and s.min_score is not None
        refusing = scored or any(
            limit is not None for limit in (s.absolute_margin, s.relative_margin, s.max_score)
        )
        range_max = s.range_min + s.negatives * (10 if refusing else 1) + most_positives
    if s.range_max_share is not None:
        range_max = min(range_max, int(s.range_max_share * rows))
    if range_max - s.range_min < s.negatives:
        raise UserError(
            f"the window from range_min {s.range_min} to range_max {range_max} (for {rows} rows) holds "
            f"fewer than {s.negatives} candidates; raise range_max or range_max_share, or lower negatives"
        )
    return Window(range_max, range_max + most_positives)


@dataclass(frozen=True)
class Candidates:
    """The candidates of a block of rows, best first, with what decides about them."""

    scores: np.ndarray  # float64 (rows, pool), descending
    passages: np.ndarray  # (rows, pool), -1 where there is none
    classes: np.ndarray  # (rows, pool), the class of each candidate's text
    no_vector: np.ndarray  # (rows, pool), whether its vector or the query's is zero
    least_positive: np.ndarray  # the least score of the query's positives, a row
    need: np.ndarray  # how many negatives each row wants
    positive_classes: "Pairs"
    query_class: np.ndarray
    existing_classes: "Pairs"
    seeds: np.ndarray | None = None  # a seed for each row's draw


class Pairs:
    """Which classes belong to which rows, asked for whole blocks at once."""

    def __init__(self, rows: np.ndarray, classes: np.ndarray, count: int):
        self._count = max(1, count)
        self._codes = np.unique(rows.astype(np.int64) * self._count + classes)

    def hold(self, classes: np.ndarray) -> np.ndarray:
        """For each candidate, whether its class belongs to its row."""
        if not len(self._codes):
            return np.zeros(classes.shape, bool)
        wanted = np.arange(len(classes))[:, None] * self._count + classes
        found = np.minimum(np.searchsorted(self._codes, wanted), len(self._codes) - 1)
        return self._codes[found] == wanted


def judge(block: Candidates, settings: MiningSettings, range_max: int) -> Codes:
    """The fate of every candidate of a block."""
    codes = _refuse(block, settings)
    free = codes == CODE["spare"]
    rank = np.cumsum(free, axis=1) - 1  # among those that nothing speaks against
    codes[free & (rank < settings.range_min)] = CODE["range_min"]
    codes[free & (rank >= range_max)] = CODE["range_max"]
    free = codes == CODE["spare"]
    if settings.choose == "random":
        chosen = _draw(free, block)
    else:
        chosen = free & (np.cumsum(free, axis=1) <= block.need[:, None])
    codes[chosen] = CODE["kept"]
    if settings.too_few == "relax":
        _relax(codes, block, settings.relax)
    elif settings.too_few != "keep":
        short = (codes == CODE["kept"]).sum(axis=1) < block.need
        codes[short[:, None] & (codes == CODE["kept"])] = CODE["short"]
    return codes


def _refuse(block: Candidates, settings: MiningSettings) -> Codes:
    s, scores = settings, block.scores
    least = block.least_positive[:, None]
    codes = np.full(scores.shape, CODE["spare"], np.int8)

    def refuse(reason: str, which: np.ndarray) -> None:
        codes[which & (codes == CODE["spare"])] = CODE[reason]

    refuse("none", block.passages < 0)
    refuse("no_vector", block.no_vector)
    refuse("positive", block.positive_classes.hold(block.classes))
    if not s.allow_query:
        refuse("query", block.classes == block.query_class[:, None])
    if not s.allow_existing:
        refuse("existing", block.existing_classes.hold(block.classes))
    if s.absolute_margin is not None:
        refuse("absolute_margin", scores + s.absolute_margin > least)
    if s.relative_margin is not None:
        refuse("relative_margin", scores > least - np.abs(least) * s.relative_margin)
    if s.max_score is not None:
        refuse("max_score", scores > s.max_score)
    if s.min_score is not None:
        refuse("min_score", scores < s.min_score)
    if s.equality == "normalised":  # otherwise every passage is a text of its own
        refuse("repeated", _repeated(block.classes, codes == CODE["spare"]))
    return codes


def _repeated(classes: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Of each row's free candidates, those with the text of one before them."""
    own = np.where(free, classes, -1 - np.arange(classes.shape[1]))  # what is not free repeats nothing
    order = np.argsort(own, axis=1, kind="stable")
    ordered = np.take_along_axis(own, order, axis=1)
    repeated = np.zeros(free.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeated


def _draw(free: np.ndarray, block: Candidates) -> np.ndarray:
    """A seeded draw without repetition from each row's free candidates."""
    chosen = np.zeros(free.shape, bool)
    assert block.seeds is not None
    for row, seed in enumerate(block.seeds.tolist()):
        options = np.flatnonzero(free[row])
        count = min(int(block.need[row]), len(options))
        picked = np.random.default_rng(seed).choice(len(options), count, replace=False)
        chosen[row, options[picked]] = True
    return chosen


def _relax(codes: Codes, block: Candidates, order: tuple[str, ...]) -> None:
    """Fill rows that have too few, letting go of one filter after the other, nearest first."""
    short = np.flatnonzero((codes == CODE["kept"]).sum(axis=1) < block.need)
    for row in short.tolist():
        taken = set(block.classes[row, codes[row] == CODE["kept"]].tolist())
        lacking = int(block.need[row]) - len(taken)
        for place in (p for name in order for p in np.flatnonzero(codes[row] == CODE[name])):
            text = int(block.classes[row, place])
            if lacking and text not in taken:
                codes[row, place] = CODE["relaxed"]
                taken.add(text)
                lacking -= 1
