"""Each row's nearest other rows in one matrix, in exact order: a search whose queries are its corpus.

Only the order is wanted, and float32 knows most of it: a candidate whose upper limit is below the lower
limits of all before it comes after them. Where limits overlap, and only there, float64 scores decide as
everywhere in this package. A row that is not certain then is compared with all rows, and at last left to
`Search`, so the answer is always exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from realign.vectors.candidates import Candidates, by_row, by_sample
from realign.vectors.exact import Metric
from realign.vectors.held import Held
from realign.vectors.limits import Limits
from realign.vectors.rows import Floats, Matrix, Places, Rows, find_distinct
from realign.vectors.search import Search, expand

Tensor = torch.Tensor
# Candidates that are put in order beyond those that are wanted, since near ties may lie at the last place:
# of all rows, and of the few that are not certain then.
SPARE, MORE_SPARE = 16, 128


@dataclass(frozen=True)
class _Ordered:
    """The nearest of some rows, all given as distinct rows, and the rows that are not certain."""

    rows: Places
    places: Places  # (rows, wanted)
    worth: Floats  # as `places`: falls along a row, and is equal where scores are
    unsure: Tensor  # in the numbers of `Limits`


class Among:
    """A matrix whose rows are searched for each other's neighbours."""

    def __init__(
        self, matrix: Matrix, k: int, metric: Metric = "ip", device: str | torch.device | None = None
    ):
        rows = Rows(matrix)
        self.k, self.metric = k, metric
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.distinct = find_distinct(rows)
        self.once = rows.subset(self.distinct.first)
        self.wanted = min(k + 1, len(self.once))  # a row's own place is taken out only at the end
        self.rescored = 0  # pairs that float64 had to decide

    def run(self) -> Iterator[tuple[Places, Places]]:
        """Some rows at a time, in no order, and their nearest, nearest first; -1 where there are no more."""
        for found in self._ordered():
            rows, owner = self.distinct.members(found.rows, len(self.distinct.which))
            _, places = expand(self.distinct, found.worth[owner], found.places[owner], self.k, rows)
            yield rows, places

    def _ordered(self) -> Iterator[_Ordered]:
        held = Held(self.once, self.device)
        limits, threads = Limits(held, self.metric), torch.get_num_threads() if held.on_host else 1
        decide = partial(self._decide, held, limits)
        unsure = torch.arange(limits.size, device=self.device)
        if not limits.overflow:
            parts = by_sample(limits, self.wanted + SPARE, threads, decide)
            yield from parts
            unsure = torch.cat([part.unsure for part in parts])
            parts = by_row(limits, unsure, self.wanted + MORE_SPARE, threads, decide)
            yield from parts
            unsure = torch.cat([unsure[:0], *(part.unsure for part in parts)])
        if len(unsure):
            which = limits.order[unsure].cpu().numpy()
            search = Search(self.once, self.wanted, self.metric, device=self.device)
            for start, worth, places in search.run(self.once.subset(which)):
                yield _Ordered(which[start : start + len(places)], places, worth, unsure[:0])

    def _decide(self, held: Held, limits: Limits, found: Candidates) -> _Ordered:
        """The order of some rows' candidates."""
        last = self.wanted - 1
        lower = limits.lower(found.rows, found.places, found.upper[:, :-1])
        # whether all candidates so far are certainly better than all that follow
        parted = lower.cummin(dim=1).values > found.upper[:, 1:]
        proved = parted[:, last:].any(dim=1)
        parted, rows, places = parted[proved], found.rows[proved], limits.order[found.places[proved]]

        begins = torch.ones_like(parted)
        begins[:, 1:] = parted[:, :-1]
        run = begins.cumsum(dim=1)  # candidates of one run overlap, in an order that float64 decides
        overlap = ~(begins & parted) & (run <= run[:, last, None])
        row, column = overlap.nonzero(as_tuple=True)
        near = places[row, column]
        scores = held.scores(limits.order[rows[row]], near, self.metric)
        self.rescored += len(scores)
        # Within a run the best comes first, and of equal ones the earlier row.
        order = near.argsort()
        order = order[scores[order].argsort(stable=True, descending=True)]
        order = order[(row * run.shape[1] + run[row, column])[order].argsort(stable=True)]
        places[row, column], scores = near[order], scores[order]
        begins[row[1:], column[1:]] |= scores[1:] != scores[:-1]
        worth = -begins[:, : last + 1].cumsum(dim=1)
        answer = (limits.order[rows], places[:, : last + 1], worth)
        numbers, nearest, falling = (values.cpu().numpy() for values in answer)
        return _Ordered(numbers, nearest, falling.astype(np.float64), found.rows[~proved])
