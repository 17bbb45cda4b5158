"""Making the list of mteb's benchmarks and tasks that a study is planned with.

Planning must not import mteb (seconds, and the torch stack), so what it needs is written once into
`study/benchmarks.json`: `python -m realign.evaluation.catalogue`. A test compares that file with
the installed mteb, and a job refuses a dataset whose revision is no longer the planned one.
"""

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import mteb

from realign.study.benchmarks import FILE, OURS


def catalogue() -> dict[str, Any]:
    """The text benchmarks and tasks of the installed mteb, in the form of the committed file."""
    benchmarks = {
        b.name: {task.metadata.name: part_of(task) for task in b.tasks}
        for b in mteb.get_benchmarks()
        if b.tasks and all(task.metadata.modalities == ["text"] for task in b.tasks)
    }
    for name, (source, kept) in OURS.items():
        tasks = benchmarks[source]
        benchmarks[name] = {task: tasks[task] for task in tasks if kept is None or kept(task)}
    used = {task.metadata.name: task for task in _all_tasks()}
    for tasks in benchmarks.values():
        missing = set(tasks) - set(used)
        used |= {name: mteb.get_task(name) for name in sorted(missing)}
    return {
        "mteb": version("mteb"),
        "benchmarks": dict(sorted(benchmarks.items())),
        "tasks": {name: describe(used[name]) for name in sorted(used)},
    }


def _all_tasks() -> list[Any]:
    return list(mteb.get_tasks(modalities=["text"], exclusive_modality_filter=True))


def part_of(task: Any) -> dict[str, list[str]]:
    """The splits and subsets that a benchmark takes of a task, where it does not take them all."""
    part = {}
    if list(task.eval_splits) != list(task.metadata.eval_splits):
        part["splits"] = list(task.eval_splits)
    if list(task.hf_subsets) != list(task.metadata.hf_subsets):
        part["subsets"] = list(task.hf_subsets)
    return part


def describe(task: Any) -> dict[str, Any]:
    """What planning and listing need to know of a task."""
    meta = task.metadata
    return {
        "type": meta.type,
        "metric": meta.main_score,
        "dataset": meta.dataset.get("path", ""),
        "revision": meta.dataset.get("revision", ""),
        "splits": list(meta.eval_splits),
        "subsets": len(meta.hf_subsets),
        "texts": count_texts(meta.descriptive_stats, meta.eval_splits),
        "domains": sorted(meta.domains or []),
        "public": bool(meta.is_public),
    }


def count_texts(stats: Mapping[str, Any] | None, splits: list[str]) -> int | None:
    """How many texts a task's evaluation splits hold; nothing where mteb does not say."""
    counts = [(stats or {}).get(split, {}).get("num_samples") for split in splits]
    return None if not counts or None in counts else sum(counts)


def dump(content: Mapping[str, Any]) -> str:
    """The file's text: one line a task, so that its history reads well."""

    def lines(entries: Mapping[str, Any]) -> str:
        return ",\n".join(
            f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in entries.items()
        )

    benchmarks = ",\n".join(
        f" {json.dumps(name)}: {{\n{lines(tasks)}\n }}" for name, tasks in content["benchmarks"].items()
    )
    return (
        f'{{\n"mteb": {json.dumps(content["mteb"])},\n"benchmarks": {{\n{benchmarks}\n}},\n'
        f'"tasks": {{\n{lines(content["tasks"])}\n}}\n}}\n'
    )


def main() -> int:
    """Write the committed file anew from the installed mteb."""
    FILE.write_text(dump(catalogue()), encoding="utf-8")
    print(f"{FILE}: {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
