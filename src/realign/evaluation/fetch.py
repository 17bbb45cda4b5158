"""Fetching one mteb task's dataset into the hub's own cache, at the revision that was planned.

This is the only job of an evaluation that goes to the hub. Its record is what evaluations take as
their input: which dataset, which revision, how many texts came.
"""

import json
import logging
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.evaluation.dataset_cache import dataset_cache
from realign.evaluation.tasks import mteb_task
from realign.study.evaluation import FetchTask

log = logging.getLogger(__name__)


def run(job: Job[FetchTask]) -> None:
    """Load the task once with the hub switched on; the cache then serves every evaluation."""
    asked = job.settings
    task = mteb_task(asked.task, asked.revision, asked.mteb_version)
    dataset = task.metadata.dataset
    try:
        with dataset_cache(task):
            task.load_data()
    except Exception as error:  # whatever the hub or the reader says, the user needs the dataset's name
        token = "" if task.metadata.is_public else " It is private: log in with a token that may read it."
        raise UserError(
            f"{asked.task}: could not fetch {dataset.get('path')} at revision {dataset.get('revision')}: "
            f"{type(error).__name__}: {error}.{token}"
        ) from error
    record = {"task": asked.task, "dataset": dataset, "rows": count_rows(task.dataset)}
    job.output("record").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    job.note(dataset=dict(dataset), licence=task.metadata.license)


def count_rows(content: Any) -> Any:
    """How many rows each part of a loaded dataset has, however deep it is nested."""
    if content is None:
        return 0
    if hasattr(content, "num_rows") and isinstance(content.num_rows, int):
        return content.num_rows
    if hasattr(content, "items"):
        return {str(name): count_rows(part) for name, part in content.items()}
    return len(content) if hasattr(content, "__len__") else 1
