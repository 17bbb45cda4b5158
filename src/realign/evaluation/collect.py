"""Gathering one model's scores into the tidy table that figures, tables and claims read.

The table has a row for each main score of each split and subset, and the means that mteb's own
leaderboard knows. With `partial`, what is there is collected, the holes are listed, and a mean is
absent wherever a task of it is missing.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from realign.artifacts.command import Job, UserError
from realign.evaluation.aggregates import Entry, Mean, TaskScores, benchmark_means, holes
from realign.evaluation.queries import frame_of, write
from realign.names import model_columns
from realign.study.evaluation import CollectScores

log = logging.getLogger(__name__)

COLUMNS = (
    "study", "embedder", "backbone", "recipe", "seed", "step", "preset", "benchmark", "task", "task_type",
    "split", "subset", "metric", "value", "mteb_version", "dataset_revision", "prompt_hash",
)  # fmt: skip

# A query's score stands once, whichever benchmarks count its task: `scores` says which do.
QUERY_COLUMNS = (
    "study", "embedder", "backbone", "recipe", "seed", "step", "preset", "task", "task_type",
    "split", "subset", "query", "metric", "value",
)  # fmt: skip

NUMBERS = {"value": "float64", "seed": "Int64", "step": "Int64"}
FIRST_SPLIT, OVER_PRESENT = "first_split_only", "mean_over_present"
Found = dict[str, tuple[TaskScores, dict[str, Any]]]


def run(job: Job[CollectScores]) -> None:
    """Write the table, and the holes if they are asked for."""
    found = read_all(job.inputs_of("scores"), job.inputs_of("records"))
    asked = job.settings
    missing = {
        label: gone
        for label, preset, parts in series(asked)
        if (gone := holes(parts, {t: s for t, (s, _) in found.get(preset, {}).items()}))
    }
    if missing and not asked.partial:
        lines = "\n".join(f"  - {name}: {', '.join(tasks)}" for name, tasks in missing.items())
        raise UserError(
            f"scores of {asked.model} are missing, and no mean is made over holes:\n{lines}\n"
            "run the failed tasks again, or ask for the target scores_partial"
        )
    frame = pd.DataFrame(list(table(asked, found)), columns=list(COLUMNS)).astype(NUMBERS)
    frame.to_parquet(job.output("table"), index=False)
    by_query = query_table(asked, job.inputs_of("records"), job.inputs_of("queries"))
    write(by_query, job.output("by_query"))
    text = json.dumps({asked.model: missing}, indent=1, ensure_ascii=False) + "\n"
    job.output("holes").write_text(text, encoding="utf-8")


def series(asked: CollectScores) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Each benchmark as it is evaluated: by default, and once more for each published habit."""
    for benchmark, parts in asked.benchmarks.items():
        yield benchmark, "", parts
    for preset in asked.presets:
        yield f"BRIGHT ({preset})", preset, asked.benchmarks["BRIGHT"]


def read_all(scores: list[Path], records: list[Path]) -> dict[str, Found]:
    """Every task's scores and record, by preset and task."""
    if len(scores) != len(records):
        raise UserError(f"{len(scores)} score files came with {len(records)} records; each needs its own")
    found: dict[str, Found] = {}
    for path, beside in zip(scores, records, strict=True):
        record = _read(beside)
        found.setdefault(record["preset"], {})[record["task"]] = (read_scores(path, record), record)
    return found


def read_scores(path: Path, record: Mapping[str, Any]) -> TaskScores:
    """The main scores in a file that mteb wrote."""
    content = _read(path)
    try:
        if content["task_name"] != record["task"]:
            raise UserError(f"{path}: holds {content['task_name']}, and its record is of {record['task']}")
        entries = tuple(
            Entry(split, e["hf_subset"], float(e["main_score"]), tuple(e["languages"]))
            for split, listed in content["scores"].items()
            for e in listed
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a result of mteb's ({error!r}); delete it and run its rule again"
        ) from None
    return TaskScores(record["task"], record["task_type"], entries, tuple(record["domains"]))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run its rule again") from None


def table(asked: CollectScores, found: Mapping[str, Found]) -> Iterator[dict[str, Any]]:
    """The rows of the tidy table."""
    model = {"study": asked.study} | model_columns(asked.model)
    for _, preset, parts in series(asked):
        benchmark = next(name for name, p in asked.benchmarks.items() if p is parts)
        group = found.get(preset, {})
        there = {task: scores for task, (scores, _) in group.items()}
        about = model | {"preset": preset, "benchmark": benchmark}
        for task, part in parts.items():
            if task in group:
                yield from _task_rows(about, *group[task], part)
        yield from _mean_rows(about, benchmark_means(parts, there))
        if asked.first_split_only:
            means = benchmark_means(parts, there, first_split_only=True)
            yield from _mean_rows(about | {"preset": _both(preset, FIRST_SPLIT)}, means)
        if asked.mean_over_present:
            means = benchmark_means(parts, there, over_present=True)
            yield from _mean_rows(about | {"preset": _both(preset, OVER_PRESENT)}, means)


def query_table(asked: CollectScores, records: list[Path], queries: list[Path]) -> pd.DataFrame:
    """The score of every query of every retrieval task, each once."""
    model = {"study": asked.study} | model_columns(asked.model)
    frames = []
    for beside, path in zip(records, queries, strict=True):
        record = _read(beside)
        about = model | {key: record[key] for key in ("preset", "task", "task_type")}
        frames.append(_read_queries(path).assign(**about))
    whole = pd.concat(frames) if frames else frame_of([])
    return whole.reindex(columns=list(QUERY_COLUMNS)).astype(NUMBERS)


def _read_queries(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run its rule again") from None


def _both(*presets: str) -> str:
    return "+".join(p for p in presets if p)


def _task_rows(
    about: Mapping[str, Any], scores: TaskScores, record: Mapping[str, Any], part: Any
) -> Iterator[dict]:
    for entry in scores.entries:
        if (part.splits and entry.split not in part.splits) or (
            part.subsets and entry.subset not in part.subsets
        ):
            continue
        row = {
            **about,
            "task": scores.task,
            "task_type": scores.task_type,
            "split": entry.split,
            "subset": entry.subset,
            "value": entry.value,
            "mteb_version": record["mteb_version"],
            "dataset_revision": record["dataset_revision"],
            "prompt_hash": record["prompt_hash"],
        }
        yield row | {"metric": "main_score"}
        yield row | {"metric": record["metric"]}


def _mean_rows(about: Mapping[str, Any], means: Iterator[Mean]) -> Iterator[dict[str, Any]]:
    blank = dict.fromkeys(("task", "split", "mteb_version", "dataset_revision", "prompt_hash"), "")
    for m in means:
        yield {
            **about,
            **blank,
            "task_type": m.task_type,
            "subset": m.subset,
            "metric": m.metric,
            "value": m.value,
        }
