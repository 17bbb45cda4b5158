"""Evaluating a model's small tasks in one process, since loading it is most of a small task.

Each task is the very job that the workflow runs later, done under the same key in the work store;
the single job then finds its work sealed and publishes it. A task that fails here is told and left
to its own job, which fails with its own message and its own exit code.
"""

import json
import logging
from pathlib import Path

from realign.artifacts.command import Interrupted, Job, execute
from realign.artifacts.store import WorkStore
from realign.engine.progress import Progress
from realign.evaluation import evaluate
from realign.evaluation.commands import EVALUATE
from realign.study.evaluation import EvaluateWarm

log = logging.getLogger(__name__)


def run(job: Job[EvaluateWarm]) -> None:
    """Do the single jobs' work, one task after the other."""
    assert EVALUATE.run.split(":")[0] == evaluate.__name__
    store = WorkStore(job.work.folder.parent)
    report: dict[str, str] = {}
    tasks = job.settings.jobs()
    with Progress("evaluate", len(tasks), "tasks") as told:
        for settings, data in zip(tasks, _shares(job), strict=True):
            places = {name: job.scratch / f"{name}.json" for name in EVALUATE.outputs}
            inputs: dict[str, Path | list[Path]] = {"model": job.input("model")}
            if data:
                inputs["data"] = data
            label = settings.task + (f" ({settings.preset})" if settings.preset else "")
            try:
                execute(EVALUATE, settings, inputs, places, store, job.threads)
                report[label] = "done"
            except Interrupted:
                raise
            except Exception as error:  # told here; the task's own job fails by itself
                log.exception("%s failed; its own job will say so again", label)
                report[label] = f"failed: {type(error).__name__}: {error}"
            told.advance()
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    job.output("report").write_text(text, encoding="utf-8")


def _shares(job: Job[EvaluateWarm]) -> list[list[Path]]:
    """The data files of each task, cut from the one list they came in."""
    files = job.inputs_of("data")
    shares, start = [], 0
    for count in job.settings.counts:
        shares.append(files[start : start + count])
        start += count
    return shares
