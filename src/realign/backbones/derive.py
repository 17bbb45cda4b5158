"""What every derivation shares around its own work: one process or many, and the finished folder.

A derivation is a module with `run(job)` for the command and `make(site)` for the work. On one
process `make` runs right here; on many, the module itself is launched as the worker.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from realign.artifacts.command import Job
from realign.backbones.layout import check_layout
from realign.backbones.loop import Learner
from realign.backbones.model import no_bars_in_logs
from realign.backbones.site import S, Site
from realign.engine.checkpoints import seed_everything
from realign.engine.distributed import joined
from realign.engine.launch import launch, notice_path
from realign.engine.signals import Leaving


def finish(site: Site[Any], learner: Learner, tokenizer: Any, dtype: torch.dtype) -> None:
    """Write the finished model and its tokenizer in the common layout."""
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
        "settings": job.settings.model_dump(mode="json"),
        "inputs": {name: str(job.input(name)) for name in job.inputs},
        "out": str(job.output("model")),
        "scratch": str(job.scratch),
    }
    processes = job.settings.hardware.processes or max(1, torch.cuda.device_count())
    if processes > 1:
        launch(module, spec, job.scratch / "spec.json", processes, threads=max(1, job.threads // processes))
    else:
        torch.set_num_threads(job.threads)
        with Leaving() as leaving:
            _work(type(job.settings), spec, leaving, make)
    job.output("history").write_bytes((job.scratch / "log.jsonl").read_bytes())
    facts = json.loads((job.scratch / "facts.json").read_text(encoding="utf-8"))
    job.note(processes=processes, **facts, **check_layout(job.output("model")))


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
        )
        make(place)
