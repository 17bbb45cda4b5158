"""Benchmark results of many models as one table, whoever wrote them.

Three layouts are read: mteb's JSON files in any folders (`<model>/<revision>/<Task>.json`, as in mteb's
results repository and its cache), this project's results folder, and a folder of its tidy scores.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from realign.artifacts.command import UserError
from realign.results.tidy import read_table, task_scores
from realign.study.benchmarks import benchmarks, tasks
from realign.study.errors import nearest

_LEADING_WORD = re.compile(r"[A-Z][a-z]+|[A-Z]+(?![a-z])|[A-Z]+|\w")


@dataclass(frozen=True)
class Board:
    """Scores of models on the tasks that all of them have, in points of 100.

    `seeds` holds each training seed's scores where a model has several: (seed, task) by model.
    """

    scores: pd.DataFrame  # models × tasks
    types: pd.Series  # task → its type, such as Retrieval
    families: pd.Series  # task → its family: tasks of one type made from one source
    seeds: dict[str, pd.DataFrame]
    left_out: dict[str, list[str]]  # model → tasks that it lacks, for models that were left out


def read_board(places: Sequence[Path], benchmark: str = "", chosen: Sequence[str] = ()) -> Board:
    """Read results from files and folders; with a benchmark, only its tasks, splits and subsets count."""
    runs = pd.DataFrame(
        [row for place in places for row in _rows(place, _members(benchmark))],
        columns=["model", "seed", "task", "type", "value"],
    )
    if chosen:
        unknown = [name for name in chosen if name not in set(runs["task"])]
        if unknown:
            hint = nearest(unknown[0], set(runs["task"]))
            raise UserError(f"no model has a score on the task '{unknown[0]}'{hint}")
        runs = runs[runs["task"].isin(chosen)]
    if runs.empty:
        what = f" on tasks of {benchmark}" if benchmark else ""
        raise UserError(
            f"{', '.join(map(str, places))}: no benchmark scores found{what}; "
            "give a study's results, or a folder or file of mteb's results (JSON)"
        )
    return _common(runs)


def _members(benchmark: str) -> dict[str, Any] | None:
    if not benchmark:
        return None
    if benchmark not in benchmarks():
        raise UserError(f"no benchmark '{benchmark}'{nearest(benchmark, benchmarks())}")
    return dict(benchmarks()[benchmark])


def _rows(place: Path, members: dict[str, Any] | None) -> Iterator[tuple[str, float, str, str, float]]:
    if not place.exists():
        raise UserError(f"{place}: no such file or folder")
    tidy = next((p for p in (place / "tidy/scores", place) if _has(p, "*.parquet")), None)
    if tidy is not None:
        yield from _tidy_rows(sorted(tidy.glob("*.parquet")), members)
        return
    for path in [place] if place.is_file() else sorted(place.rglob("*.json")):
        yield from _mteb_rows(path, members)


def _has(folder: Path, pattern: str) -> bool:
    return folder.is_dir() and any(folder.glob(pattern))


def _tidy_rows(
    paths: Sequence[Path], members: dict[str, Any] | None
) -> Iterator[tuple[str, float, str, str, float]]:
    scores = task_scores(read_table("scores", paths))
    for row in scores.drop_duplicates(["backbone", "recipe", "seed", "task"]).itertuples():
        if members is None or row.task in members:
            recipe = f"+{row.recipe}" if isinstance(row.recipe, str) else ""
            yield f"{row.backbone}{recipe}", row.seed, row.task, row.task_type, row.value


def _mteb_rows(path: Path, members: dict[str, Any] | None) -> Iterator[tuple[str, float, str, str, float]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file that can be read ({error})") from None
    if not isinstance(content, dict) or not {"task_name", "scores"} <= set(content):
        return  # a model's card, or something else that lies beside results
    task = str(content["task_name"])
    if members is not None and task not in members:
        return
    wanted = (members or {}).get(task, {})
    splits = wanted.get("splits") or (["test"] if "test" in content["scores"] else list(content["scores"]))
    subsets = wanted.get("subsets")
    values = [
        part.get("main_score")
        for split in splits
        for part in content["scores"].get(split, [])
        if not subsets or part.get("hf_subset") in subsets
    ]
    if not values or any(v is None or not np.isfinite(v) for v in values):
        return  # counted as a task that the model lacks
    yield _model_of(path), np.nan, task, _type_of(task), 100 * float(np.mean(values))


def _model_of(path: Path) -> str:
    """`<model>/<revision>/<Task>.json`, or `<model>/<Task>.json`."""
    above = [p.name for p in path.parents if p.name]
    is_revision = len(above) > 1 and re.fullmatch(
        r"[0-9a-f]{7,40}|\d+|no_revision_available.*|main", above[0]
    )
    name = above[1] if is_revision else above[0] if above else path.stem
    return name.replace("__", "/")


def _type_of(task: str) -> str:
    return str(tasks().get(task, {}).get("type", "unknown"))


def _common(runs: pd.DataFrame) -> Board:
    """The models that have every task; those that lack some are listed, not guessed at."""
    means = runs.groupby(["model", "task"], sort=False)["value"].mean().unstack()
    lacking = means.isna()
    whole = means[~lacking.any(axis=1)]
    if len(whole) < 2:
        raise UserError(
            f"fewer than two of {len(means)} models have all {means.shape[1]} tasks; name a benchmark or "
            "tasks that they share (--benchmark, --tasks)"
        )
    types = runs.drop_duplicates("task").set_index("task")["type"].reindex(whole.columns)
    return Board(
        scores=whole,
        types=types,
        families=pd.Series({task: f"{types[task]}: {_leading_word(task)}" for task in whole.columns}),
        seeds={
            str(model): own.pivot_table(index="seed", columns="task", values="value")[whole.columns]
            for model, own in runs[runs["model"].isin(whole.index)].groupby("model")
            if own["seed"].nunique() > 1
        },
        left_out={str(m): list(row.index[row]) for m, row in lacking.iterrows() if row.any()},
    )


def _leading_word(task: str) -> str:
    """`Massive` of MassiveIntentClassification: a dataset's name stands first in its tasks' names."""
    found = _LEADING_WORD.match(task)
    return found.group(0) if found else task
