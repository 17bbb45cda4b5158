"""How sure a difference of retrieval scores is: over the queries that both models answered.

Two models meet the same queries, so their scores are subtracted query by query, and what makes a
query hard for both falls out of the error. The interval speaks of further queries like these, for
these two models and these tasks.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

from realign.artifacts.command import UserError
from realign.results.statistics import Estimate, mean_of, mean_of_strata
from realign.results.tidy import of_preset, pick

PLACE = ["task", "split", "subset", "query"]


def query_scores(queries: pd.DataFrame, model: str, metric: str = "ndcg_at_10") -> pd.DataFrame:
    """The score of each query of one model, an embedder or an untrained backbone."""
    own = of_preset(pick(queries, embedder=model, metric=metric), "")
    if own.empty:
        raise UserError(f"no {metric} of single queries of {model} is among the tidy results")
    return own.set_index(PLACE)[["value"]]


def lift(queries: pd.DataFrame, backbone: str, embedders: Sequence[str]) -> Estimate:
    """A backbone's embedders over the backbone itself, in points of nDCG@10 over all retrieval tasks.

    Seeds are averaged query by query, and tasks weigh alike.
    """
    seeds = pick(queries, embedder=tuple(embedders), task_type="Retrieval")
    means = seeds.groupby([*PLACE, "metric", "preset"], sort=False, dropna=False)["value"].mean()
    both = [pick(queries, embedder=backbone, task_type="Retrieval"), means.reset_index().assign(embedder="")]
    whole = mean_of_strata(list(query_gains(pd.concat(both), backbone, "").values()))
    return Estimate(100 * whole.value, 100 * whole.error, whole.freedom)


def query_gains(
    queries: pd.DataFrame, left: str, right: str, metric: str = "ndcg_at_10"
) -> dict[str, Estimate]:
    """Right minus left by task, paired query by query; subsets weigh alike, as in the task's score."""
    sides = [query_scores(queries, model, metric) for model in (left, right)]
    alone = sides[0].index.symmetric_difference(sides[1].index)
    if len(alone):
        raise UserError(f"{left} and {right} were not scored on the same queries: {tuple(alone[0])}")
    gain = (sides[1]["value"] - sides[0]["value"]).rename("gain")
    return {
        str(task): mean_of_strata([mean_of(part.to_numpy()) for part in _subsets(of_task)])
        for task, of_task in gain.groupby("task", sort=False)
    }


def _subsets(of_task: pd.Series) -> Iterable[pd.Series]:
    return (part for _, part in of_task.groupby(["split", "subset"], sort=False))
