"""What benchmark scores say of a pair: the gain of the post-trained side, by task and seed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from realign.results.statistics import Estimate, crossed_mean
from realign.results.tidy import pick
from realign.study.description import PairEntry


@dataclass(frozen=True)
class Gain:
    """A pair's scores on one benchmark, tasks by seeds without gaps, in points of 100."""

    benchmark: str
    left: np.ndarray
    right: np.ndarray

    @property
    def table(self) -> np.ndarray:
        """Right minus left."""
        return self.right - self.left

    @property
    def by_seed(self) -> np.ndarray:
        """Each seed's mean gain."""
        return self.table.mean(0)

    @property
    def estimate(self) -> Estimate:
        """The mean gain, tasks and seeds both taken as drawn from more."""
        return crossed_mean(self.table)


def gains(scores: pd.DataFrame, pair: PairEntry, recipe: str) -> list[Gain]:
    """The gains of a pair on each benchmark that both sides have scores on (of `task_scores`)."""
    keys = ["benchmark", "task", "seed"]
    sides = (pick(scores, recipe=recipe, backbone=name) for name in (pair.left, pair.right))
    both = pd.merge(*sides, on=keys, suffixes=("_left", "_right"))
    found = []
    for benchmark, rows in both.groupby("benchmark", sort=False):
        wide = rows.pivot(index="task", columns="seed", values=["value_left", "value_right"])
        left, right = wide["value_left"], wide["value_right"]
        whole = largest_whole(right - left)
        if whole.size:
            left, right = (side.loc[whole.index, whole.columns].to_numpy() for side in (left, right))
            found.append(Gain(str(benchmark), left, right))
    return found


def largest_whole(table: pd.DataFrame) -> pd.DataFrame:
    """The table without gaps: without its incomplete seeds, or tasks, whichever leaves more."""
    return max((table.dropna(axis=1), table.dropna(axis=0)), key=lambda kept: kept.size)
