"""The train command: index the data, start the workers, start them again when memory ran out, collect.

This process loads no torch. It outlives its workers, so it is the one to tell a time limit from a
lack of memory from a fault.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.command import RUN_VARIABLE, Job, UserError
from realign.artifacts.files import link_tree, write_text_whole
from realign.artifacts.hashing import canonical_json
from realign.artifacts.manifest import content_hash
from realign.artifacts.store import WorkStore, work_key
from realign.engine.gpus import visible_gpus
from realign.engine.launch import OutOfMemory, launch
from realign.engine.steplog import read_steps
from realign.names import EmbedderId
from realign.study.recipe import Train
from realign.training.index import Source, build_index, describe_sources
from realign.training.record import write_tidy
from realign.training.uses import guided, named_datasets, trained_on

log = logging.getLogger(__name__)
INDEX_VERSION = 2
WORKER = "realign.training.worker"


def run(job: Job[Train]) -> None:
    """Train one embedder."""
    order = job.settings
    sources = index_data(job.inputs_of("data"), WorkStore(job.work.folder.parent))
    given = {source.name for source in sources}
    if unknown := named_datasets(order.recipe) - given:
        raise UserError(f"the recipe names datasets that are not given: {', '.join(sorted(unknown))}")
    chosen = [source for source in sources if trained_on(order.recipe, source.name)]
    if not chosen:
        raise UserError("batches.weights gives every dataset weight 0, so there is nothing to train on")
    guide = job.inputs_of("guide")
    if uses := guided(order.recipe, [source.name for source in chosen]):
        if not guide:
            raise UserError(f"{uses} needs a guide model; give its folder as --guide")
        if not (guide[0] / "modules.json").is_file():
            raise UserError(
                f"{guide[0]}: no guide model; expected a sentence-transformers folder (modules.json)"
            )
    elif guide:
        raise UserError("--guide: the loss uses no guide model; set loss.guide or loss.distillation.teacher")
    spec = {
        "order": order.model_dump(mode="json"),
        "backbone": str(job.input("backbone").resolve()),
        "sources": describe_sources(chosen),
        "scratch": str(job.scratch.resolve()),
        "guide": str(guide[0].resolve()) if guide else None,
        "deepspeed": _own_config(job.inputs_of("deepspeed")),
    }
    train(spec, order, job.scratch, job.threads)
    _collect(job)


def index_data(paths: Sequence[Path], store: WorkStore) -> list[Source]:
    """The datasets by name, in the order of their names, each with its index, made once for all trainings."""
    sources = []
    for path in paths:
        work = store.work("index", work_key("index", {"rows": content_hash(path)}, INDEX_VERSION, ""))
        with work.locked():
            if work.sealed() is None:
                log.info("indexing %s", path)
                work.begin()
                build_index(path, work.out / "index")
                work.seal({"index": work.out / "index"}, {"command": "index", "of": os.path.relpath(path)})
        sources.append(Source(dataset_name(path), path.resolve(), (work.out / "index").resolve()))
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise UserError(f"two data files are of one dataset: {', '.join(sorted(names))}")
    return sorted(sources, key=lambda source: source.name)


def dataset_name(path: Path) -> str:
    """The dataset that a file holds: its folder's name where the file is `pairs.jsonl`, else its own."""
    stem = re.sub(r"\.(jsonl?|tsv|parquet)(\.\w+)?$", "", path.name)
    return path.resolve().parent.name if stem == "pairs" else stem


def _own_config(paths: Sequence[Path]) -> dict[str, Any] | None:
    for path in paths:
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is not JSON: {error}") from None
        if not isinstance(config, dict):
            raise UserError(f"{path} holds no JSON object")
        return config
    return None


def train(spec: Mapping[str, Any], order: Train, scratch: Path, threads: int) -> None:
    """Run the workers to the end; each time memory runs out, go on with half the token budget."""
    hardware = order.recipe.hardware
    processes = hardware.processes or len(visible_gpus()) or 1
    budget = _budget(scratch, hardware.token_budget)
    longest = max(order.query_tokens, order.passage_tokens)
    _note_attempt(scratch)
    while True:
        try:
            launch(
                WORKER,
                {**spec, "token_budget": budget},
                scratch / "worker.json",
                processes,
                hardware.nodes,
                max(1, threads // processes),
            )
            return
        except OutOfMemory as error:
            if budget <= longest:
                raise UserError(
                    f"out of memory with a single text of {longest} tokens in a chunk ({error}); switch on "
                    "hardware.activation_checkpointing, raise hardware.zero_stage or use more GPUs"
                ) from None
            budget = max(longest, budget // 2)
            log.warning(
                "out of memory (%s): going on from step %d with a token budget of %d; the batch stays",
                error,
                last_step(scratch),
                budget,
            )
            write_text_whole(scratch / "token_budget.json", canonical_json(budget))


def _budget(scratch: Path, asked: int) -> int:
    """The token budget: what was asked for, or what an earlier lack of memory left of it."""
    left = _noted(scratch / "token_budget.json")
    return min(asked, left) if isinstance(left, int) else asked


def _noted(place: Path) -> Any:
    """What an earlier attempt noted, or nothing.

    Notes were once written in place, so a killed attempt may have left a piece of one. Without it, the
    run goes on as a first attempt would: it halves its budget again, and counts its attempts from here.
    """
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def last_step(scratch: Path) -> int:
    """The newest checkpoint's step, judged by names alone."""
    names = (re.fullmatch(r"step-(\d+)", p.name) for p in (scratch / "checkpoints").glob("step-*"))
    return max((int(found[1]) for found in names if found), default=0)


def _note_attempt(scratch: Path) -> None:
    """Fail when two attempts of a run went on from where this one would: they gained no step.

    Every later attempt of the same run fails at once; another run, with more time, may try. So may an
    attempt with more memory than the one before it: a job that was killed for lack of it gets more.
    """
    place, step, run = scratch / "attempts.json", last_step(scratch), os.environ.get(RUN_VARIABLE)
    noted = _noted(place)
    before = noted if isinstance(noted, dict) else {}
    same = bool(step) and (before.get("step"), before.get("run")) == (step, run)
    memory = _memory_given()
    more = memory > before.get("memory", 0)
    again = before["count"] + 1 if same and not more else 1
    if again > 2:
        if run is None:
            place.unlink()  # no run ends here: a person tries again, with more time
        raise UserError(
            f"two attempts went on from step {step} and gained nothing; give the job more time or lower "
            "hardware.save_every"
        )
    attempt = {"step": step, "count": again, "run": run, "memory": memory}
    write_text_whole(place, canonical_json(attempt))


def _memory_given() -> int:
    """The megabytes on each node that SLURM gave this job; elsewhere memory never grows, so nothing."""
    return int(os.environ.get("SLURM_MEM_PER_NODE") or 0)


def _collect(job: Job[Train]) -> None:
    order, scratch = job.settings, job.scratch
    kept = scratch / "kept"
    kept.mkdir(exist_ok=True)
    lines = list(read_steps(scratch / "log.jsonl"))
    name = EmbedderId(order.backbone_name, order.recipe_name, order.seed)
    write_tidy(job.output("tidy"), lines, order.study, name)
    # Linked, not moved: a kill in the middle of this must not lose what only a training can make.
    link_tree(scratch / "model", job.output("model"))
    link_tree(kept, job.output("checkpoints"))
    link_tree(scratch / "tensorboard", job.output("tensorboard"))
    shutil.copyfile(scratch / "log.jsonl", job.output("training_log"))
    first = next(line for line in lines if "batch_order" in line)
    job.note(
        batch_order=first["batch_order"],
        data=first["data"],
        precision=first.get("precision"),  # not in a log that an older version began
        token_budget=_budget(scratch, order.recipe.hardware.token_budget),
        hardware=order.recipe.hardware.model_dump(mode="json"),
    )
