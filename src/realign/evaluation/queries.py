"""The score of every single query, which mteb computes, averages and forgets.

An interval over queries, and above all one of the difference of two models on the same queries,
needs them. They are noted subset by subset as mteb makes them, beside its half-finished result, so
that a job that was killed and goes on has them all.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pandas as pd
from mteb.abstasks import AbsTaskRetrieval

from realign.artifacts.files import write_whole
from realign.artifacts.hashing import hash_json

log = logging.getLogger(__name__)

# What mteb's metrics are called in trec_eval, which scores single queries for it.
TREC = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}
ALWAYS = "ndcg_at_10"
TYPES = {"split": str, "subset": str, "query": str, "metric": str, "value": "float64"}


class QueryScores:
    """The scores of one task's queries: nDCG@10, and the main metric where a single query has it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def watch(self, task: Any) -> None:
        """Note the queries' scores whenever a retrieval task is scored; an aggregate's parts are subsets."""
        for part in getattr(task, "tasks", [task]):
            if isinstance(part, AbsTaskRetrieval):
                subset = "" if part is task else part.metadata.name
                note = functools.partial(
                    self._note, part.task_specific_scores, part.metadata.main_score, subset
                )
                part.task_specific_scores = note  # type: ignore[method-assign]

    def _note(
        self,
        original: Callable[..., dict[str, float]],
        main_metric: str,
        subset: str,
        scores: Mapping[str, Mapping[str, float]],
        *others: Any,
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        subset = subset or hf_subset
        names = {metric: trec_name(metric) for metric in (ALWAYS, main_metric)}
        rows = [
            (hf_split, subset, query, metric, of_query[name])
            for query, of_query in sorted(scores.items())
            for metric, name in names.items()
            if name in of_query
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hash_json([hf_split, subset])[:16]}.parquet"
        write_whole(path, functools.partial(write, frame_of(rows)))
        return original(scores, *others, hf_split=hf_split, hf_subset=hf_subset)

    def damaged(self) -> bool:
        """Whether something noted earlier cannot be read."""
        try:
            self.read()
        except (OSError, ValueError, KeyError) as error:
            log.warning("the queries' scores in %s are damaged (%s)", self.folder, str(error)[:200])
            return True
        return False

    def read(self) -> pd.DataFrame:
        """All that was noted; no rows for a task that scores no queries."""
        frames = [pd.read_parquet(path) for path in sorted(self.folder.glob("*.parquet"))]
        whole = pd.concat(frames) if frames else frame_of([])
        return whole.sort_values(["split", "subset", "metric", "query"], ignore_index=True)


def trec_name(metric: str) -> str:
    """trec_eval's name of a metric; empty for one that it does not score."""
    kind, _, depth = metric.rpartition("_at_")
    return f"{TREC[kind]}_{depth}" if kind in TREC else ""


def frame_of(rows: list[tuple[str, str, str, str, float]]) -> pd.DataFrame:
    """Rows as a table of the right types, also when there are none."""
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def write(frame: pd.DataFrame, place: Path | IO[bytes]) -> None:
    """A small file: most columns say the same in every row."""
    frame.to_parquet(place, index=False, compression="zstd")
