"""What benchmark scores say of a pair: the gain of the post-trained side, by task and seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from realign.results.statistics import Estimate, crossed_mean, mean_of
from realign.results.tidy import pick
from realign.study.description import PairEntry


@dataclass(frozen=True)
class Gain:
    """A pair's scores on one benchmark, tasks by seeds without gaps, in points of 100."""

    benchmark: str
    left: np.ndarray
    right: np.ndarray
    tasks: tuple[str, ...]
    types: tuple[str, ...]  # each task's type: tasks of one type may go together

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
        """The mean gain, tasks (by type) and seeds taken as drawn from more: other tasks like these.

        One task says nothing of others, so its error is unknown.
        """
        if len(self.table) == 1:
            return Estimate(float(self.table.mean()), np.inf)
        return crossed_mean(self.table, self.types)

    @property
    def without_one_task(self) -> tuple[str, float]:
        """The task that moves the mean most, and the mean gain without it; of two tasks or more."""
        of_task = self.table.mean(1)
        most = int(np.argmax(abs(of_task - of_task.mean())))
        return self.tasks[most], float(np.delete(of_task, most).mean())

    @property
    def on_these_tasks(self) -> Estimate:
        """The mean gain on these very tasks, seeds alone taken as drawn from more."""
        return mean_of(self.by_seed)


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
            types = rows.drop_duplicates("task").set_index("task")["task_type_left"].fillna("")
            found.append(Gain(str(benchmark), left, right, tuple(whole.index), tuple(types.loc[whole.index])))
    return found


def score_of_random_weights(scores: pd.DataFrame, names: Sequence[str], gain: Gain) -> float:
    """The mean score of random weights of the base's shape on the same tasks; NaN where there is none.

    Embedders that were trained from such weights are left out: they have a recipe.
    """
    rows = pick(scores, backbone=list(names), benchmark=gain.benchmark, task=list(gain.tasks))
    rows = rows[rows["recipe"].fillna("") == ""]
    by_task = rows.groupby("task")["value"].mean()
    return float(by_task.mean()) if len(by_task) == len(gain.tasks) else np.nan


def largest_whole(table: pd.DataFrame) -> pd.DataFrame:
    """The table without gaps: without its incomplete seeds, or tasks, whichever leaves more."""
    return max((table.dropna(axis=1), table.dropna(axis=0)), key=lambda kept: kept.size)
