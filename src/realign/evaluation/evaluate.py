"""Evaluating one model on one task through mteb's own API, with the hub switched off.

mteb's result file is kept as mteb writes it. Beside it goes a record of what was really prefixed
and of where the task came from, since mteb's file says neither.
"""

import functools
import json
import logging
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Read by the libraries when they are imported: datasets were fetched by a job of their own.
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import mteb
import pandas as pd
import torch
from mteb.results import TaskResult

from realign.artifacts.command import Interrupted, Job, UserError
from realign.artifacts.hashing import hash_json
from realign.artifacts.manifest import content_hash
from realign.engine.signals import Leaving
from realign.evaluation import models
from realign.evaluation.dataset_cache import dataset_cache
from realign.evaluation.encoder import Encoder
from realign.evaluation.prompts import PromptPlan, prompt_hash
from realign.evaluation.queries import QueryScores, write
from realign.evaluation.tasks import build_task, mteb_task
from realign.study.evaluation import EvaluateTask
from realign.vectors.store import VectorStore

log = logging.getLogger(__name__)

LIMIT_VARIABLE = "REALIGN_VECTORS_GB"  # where a result may be kept is no part of what it is


def run(job: Job[EvaluateTask]) -> None:
    """Evaluate the job's model on its task."""
    asked = job.settings
    _set_threads(job.threads)
    task = build_task(asked, job.inputs_of("data"))
    _load_texts(task, asked.task)
    path = job.input("model")
    identity = content_hash(path)
    model = _model(path, identity, asked.model_name, asked.max_length, asked.dtype)
    taught_by = mteb_task(asked.instruction_of).metadata if asked.instruction_of else None
    plan = PromptPlan.of(asked, model.prompts, taught_by, model.default_prompt)
    store = _vectors(job, identity)
    encoder = Encoder(model, hash_json([identity, asked.as_slice()])[:16], plan, store)
    with Leaving() as model.leaving:
        result, file, by_query = evaluate(encoder, task, job.scratch)
    shutil.copyfile(file, job.output("scores"))
    write(by_query, job.output("queries"))
    record = describe(asked, task, encoder, result)
    job.output("record").write_text(
        json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    job.note(prompts=record["prompts"], texts=encoder.asked, encoded=encoder.encoded)


def evaluate(encoder: Encoder, task: Any, scratch: Path) -> tuple[TaskResult, Path, pd.DataFrame]:
    """mteb's result of a task, the file it wrote and the queries' scores; finished subsets are kept."""
    store = mteb.ResultCache(scratch / "mteb")
    queries = QueryScores(scratch / "queries")
    name = task.metadata.name
    file = store.get_task_result_path(name, encoder.mteb_model_meta)

    def start_over() -> None:
        log.warning("%s is evaluated from its start", name)
        for folder in (store.cache_path, queries.folder):
            shutil.rmtree(folder, ignore_errors=True)

    if _damaged(file) or queries.damaged():
        start_over()
    queries.watch(task)
    result = _scored(encoder, task, store)
    if not encoder.prefixed:  # a job that was killed had scored it all, but not told what it prefixed
        start_over()
        result = _scored(encoder, task, store)
    _check_scores(name, result)
    return result, file, queries.read()


def _scored(encoder: Encoder, task: Any, store: mteb.ResultCache) -> TaskResult:
    """What mteb makes of a task, going on from what the store holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            results = mteb.evaluate(
                encoder,
                task,
                cache=store,
                overwrite_strategy="only-missing",
                co2_tracker=False,
                show_progress_bar=False,
                encode_kwargs={"batch_size": 32, "show_progress_bar": False},
                raise_error=True,
            )
        except Interrupted as leaving:
            raise Interrupted(f"{task.metadata.name}: {leaving}") from None
    return results.task_results[0]


def _damaged(file: Path) -> bool:
    """Whether there is a half-finished result that cannot be read."""
    if not file.is_file():
        return False
    try:
        TaskResult.from_disk(file)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s)", file, str(error)[:200])
        return True
    return False


def _check_scores(name: str, result: TaskResult) -> None:
    """A main score that is no number would vanish from every mean."""
    for split, scores in result.scores.items():
        for entry in scores:
            value = entry["main_score"]
            if value is None or value != value:
                raise UserError(
                    f"{name}: the main score of {split}/{entry['hf_subset']} is no number; "
                    "are all of the model's vectors equal, or do they hold NaN?"
                )


def _load_texts(task: Any, name: str) -> None:
    """Load a task's texts, saying what to do when they are not on this machine."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    missing = (
        DatasetNotFoundError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        HfHubHTTPError,
        ConnectionError,
    )
    with dataset_cache(task) as folder:
        try:
            task.load_data()
        except missing as error:
            raise UserError(
                f"{name}: its dataset {task.metadata.dataset.get('path')} at revision "
                f"{task.metadata.dataset.get('revision')} is not on this machine, and evaluation never goes "
                f"to the hub ({type(error).__name__}). Fetch it first, where there is a network: by the "
                "workflow's rule fetch_task (--forcerun fetch_task where the cache was cleared), or "
                f"with realign evaluate --model … --tasks {name} --fetch"
            ) from error
        except (DatasetsError, OSError, ValueError) as error:  # what readers make of a damaged file
            raise UserError(
                f"{name}: its texts in {folder} cannot be read ({type(error).__name__}: {error}). "
                "Delete that folder and fetch them again (snakemake --forcerun fetch_task, or --fetch)"
            ) from error


def _set_threads(threads: int) -> None:
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)


@functools.lru_cache(maxsize=1)
def _model(path: Path, identity: str, name: str, max_length: int, dtype: str) -> models.Model:
    """The model; the jobs that one process does share it."""
    log.info("loading %s (%s)", path, identity[:12])
    return models.load(path, name, max_length, dtype)


def _vectors(job: Job[EvaluateTask], identity: str) -> VectorStore | None:
    """Where the vectors of this model are kept: in the work store, beside all other work."""
    limit = float(os.environ.get(LIMIT_VARIABLE, "20"))
    if not limit:
        return None
    asked = job.settings
    key = hash_json([identity, asked.max_length, asked.dtype, asked.vectors, job.command.code])[:24]
    return VectorStore(job.work.folder.parent / f"vectors-{key}", asked.vectors, limit * 1e9)


def describe(asked: EvaluateTask, task: Any, encoder: Encoder, result: TaskResult) -> Mapping[str, Any]:
    """What mteb's file does not say: the words before the texts, and what the task is."""
    meta = task.metadata
    return {
        "task": asked.task,
        "task_type": meta.type,
        "metric": meta.main_score,
        "domains": sorted(meta.domains or []),
        "preset": asked.preset,
        "prompts": dict(sorted(encoder.prefixed.items())),
        "prompt_hash": prompt_hash(encoder.prefixed),
        "mteb_version": mteb.__version__,
        "dataset_revision": result.dataset_revision,
        "seed": asked.seed,
        "dtype": asked.dtype,
        "max_length": encoder.model.max_length,
    }
