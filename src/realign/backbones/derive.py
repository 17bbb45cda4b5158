"""What every derivation shares around its own work: one process or many, and the finished folder.

A derivation is a module with `run(job)` for the command and `make(site)` for the work. On one
process `make` runs right here; on many, or at ZeRO 3, the module itself is launched as the worker.
"""

import contextlib
import gc
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from realign.artifacts.command import Job, UserError
from realign.backbones.layout import check_layout
from realign.backbones.loop import Learner
from realign.backbones.model import no_bars_in_logs
from realign.backbones.site import S, Site
from realign.backbones.trail import trail_of
from realign.engine.checkpoints import seed_everything
from realign.engine.distributed import joined
from realign.engine.launch import OutOfMemory, launch, notice_path
from realign.engine.signals import Leaving
from realign.engine.worker import first_line, is_out_of_memory
from realign.study.backbones import Derivation

log = logging.getLogger(__name__)


def finish(site: Site[Any], learner: Learner, tokenizer: Any, dtype: torch.dtype) -> None:
    """Write the finished model and its tokenizer in the common layout."""
    with contextlib.closing(learner):
        model, values = learner.finished()
        if site.world.is_main:
            write_model(model, values, tokenizer, site.out, dtype)
            (site.scratch / "facts.json").write_text(json.dumps(site.facts), encoding="utf-8")
        site.world.wait()


def write_model(
    model: Any, values: Mapping[str, torch.Tensor], tokenizer: Any, folder: Path, dtype: torch.dtype
) -> None:
    """A model with given weights, and its tokenizer, as a folder in Hugging Face layout."""
    no_bars_in_logs()
    model.config.dtype = dtype
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    state = {name: value.to(dtype) for name, value in values.items() if name not in tied}
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)


def run_here_or_launch(job: Job[S], module: str, make: Callable[[Site[S]], None]) -> None:
    """Do a derivation's work and lay out its outputs `model` and `history`."""
    spec = {
        "inputs": {name: str(job.input(name)) for name in job.inputs},
        "out": str(job.output("model")),
        "scratch": str(job.scratch),
        "trail": str(trail_of(job)),
    }
    processes, micro_batch = _processes(job.settings), job.settings.hardware.micro_batch
    while not _fits(job, module, make, spec, processes, micro_batch):
        if micro_batch == 1:
            raise UserError(
                "out of memory with a single sequence at once; switch on hardware.gradient_checkpointing, "
                "raise hardware.zero_stage or use more GPUs"
            )
        micro_batch = (micro_batch + 1) // 2
        log.warning("out of memory: going on with hardware.micro_batch %d; the batch stays", micro_batch)
        gc.collect()  # what failed in this process may hold its memory in circles
        torch.cuda.empty_cache()
    job.output("history").write_bytes((job.scratch / "log.jsonl").read_bytes())
    facts = json.loads((job.scratch / "facts.json").read_text(encoding="utf-8"))
    job.note(processes=processes, **facts, **check_layout(job.output("model")))


def _processes(settings: Derivation) -> int:
    """Processes that share a step's batch evenly: as many as asked for, or as GPUs, or fewer."""
    there = settings.hardware.processes or max(1, torch.cuda.device_count())
    batch: int = settings.batch  # type: ignore[attr-defined]  # every derivation has one
    fitting = max(count for count in range(1, there + 1) if batch % count == 0)
    if fitting < there:
        log.warning("%d processes cannot share a batch of %d evenly: %d are used", there, batch, fitting)
    return fitting


def _fits(
    job: Job[S],
    module: str,
    make: Callable[[Site[S]], None],
    spec: Mapping[str, Any],
    processes: int,
    micro_batch: int,
) -> bool:
    """Do the work with so many sequences at once, from its newest checkpoint on; no where memory ran out."""
    settings = job.settings
    hardware = settings.hardware.model_copy(update={"processes": processes, "micro_batch": micro_batch})
    settings = settings.model_copy(update={"hardware": hardware})
    spec = {**spec, "settings": settings.model_dump(mode="json")}
    try:
        if processes > 1 or hardware.zero_stage == 3:  # ZeRO 3 never frees what it had in this process
            threads = max(1, job.threads // processes)
            launch(module, spec, job.scratch / "spec.json", processes, threads=threads)
        else:
            torch.set_num_threads(job.threads)
            with Leaving() as leaving:
                _work(type(settings), spec, leaving, make)
    except Exception as error:
        if isinstance(error, OutOfMemory) or is_out_of_memory(error):
            log.warning("%s", first_line(error))
            return False
        raise
    return True


def work_as(settings: type[S], make: Callable[[Site[S]], None]) -> Callable[[Mapping[str, Any], Path], None]:
    """A derivation's `main(spec, path)` for a worker process."""

    def main(spec: Mapping[str, Any], path: Path) -> None:
        with Leaving(notice_path(path)) as leaving:
            _work(settings, spec, leaving, make)

    return main


def _work(
    settings: type[S], spec: Mapping[str, Any], leaving: Leaving, make: Callable[[Site[S]], None]
) -> None:
    inputs = {name: Path(path) for name, path in spec["inputs"].items()}
    with joined() as world:
        seed_everything(0)  # nothing draws from global state; should a library do, it draws the same
        place = Site(
            settings.model_validate(spec["settings"]),
            inputs,
            Path(spec["out"]),
            Path(spec["scratch"]),
            world,
            leaving,
            Path(spec["trail"]),
        )
        make(place)
