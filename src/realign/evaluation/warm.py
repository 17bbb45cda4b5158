"""Evaluating a model's small tasks in one process, since loading it is most of a small task.

Each task is the very job that a task of its own process would be, done under the same key in the work
store, from where the workflow publishes it. A task that fails does not hold up the others: it is told
in the report and by its work, and tried again in the next run.
"""

import json
import logging
from pathlib import Path

from realign.artifacts.command import Interrupted, Job, execute
from realign.artifacts.store import WorkStore
from realign.engine.progress import Progress
from realign.evaluation import evaluate
from realign.evaluation.commands import EVALUATE
from realign.study.evaluation import WARM_DONE, EvaluateTask, EvaluateWarm

log = logging.getLogger(__name__)


def run(job: Job[EvaluateWarm]) -> None:
    """Do the single jobs' work, one task after the other."""
    assert EVALUATE.run.split(":")[0] == evaluate.__name__
    store = WorkStore(job.work.folder.parent)
    report: dict[str, str] = {}
    seconds = 0.0
    tasks = single_tasks(job.settings)
    with Progress("evaluate", len(tasks), "tasks") as told:
        for settings, data in zip(tasks, _shares(job), strict=True):
            places = {name: job.scratch / f"{name}.json" for name in EVALUATE.outputs}
            inputs: dict[str, Path | list[Path]] = {"model": job.input("model")}
            if data:
                inputs["data"] = data
            name = settings.task + (f" ({settings.preset})" if settings.preset else "")
            try:
                seal = execute(EVALUATE, settings, inputs, places, store, job.threads)
                report[name] = WARM_DONE
                seconds += seal.provenance["seconds"]
            except Interrupted:
                raise
            except Exception as error:  # publishing it fails with these words
                log.exception("%s failed", name)
                report[name] = f"failed: {type(error).__name__}: {error}"
            told.advance()
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    job.output("report").write_text(text, encoding="utf-8")
    job.note(seconds=round(seconds, 3))  # what it costs from nothing, though much of it may have been done


def single_tasks(settings: EvaluateWarm) -> list[EvaluateTask]:
    """The slices of the single jobs, exactly as those jobs get them."""
    shared = settings.common.model_dump()
    return [EvaluateTask.model_validate(shared | task.model_dump()) for task in settings.tasks]


def _shares(job: Job[EvaluateWarm]) -> list[list[Path]]:
    """The data files of each task, cut from the one list they came in."""
    files = job.inputs_of("data")
    shares, start = [], 0
    for count in job.settings.counts:
        shares.append(files[start : start + count])
        start += count
    return shares
