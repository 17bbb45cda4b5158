"""The loop that pretraining, fine-tuning and GRPO share: steps, schedule, checkpoints, log, leaving.

It stands on DeepSpeed through `engine`, on one process as on many. What a step learns from is the
caller's business, given as chunks whose losses add up to the step's loss. All choices of a step
follow from its number, so a checkpoint holds weights and optimizer states and nothing else.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from realign.artifacts.command import Interrupted
from realign.backbones.site import Site
from realign.engine.checkpoints import Checkpoints
from realign.engine.deepspeed_setup import (
    build_config,
    decay_groups,
    full_parameter,
    initialize,
    restore_optimizer,
    restore_parameters,
    training_tensors,
)
from realign.engine.distributed import World
from realign.engine.progress import Progress
from realign.study.backbones import Optimisation, TuningHardware

log = logging.getLogger(__name__)
Chunk = Callable[[Any], torch.Tensor]  # a model's forward pass → this chunk's part of the step's loss
Facts = dict[str, float]


class LearningFailed(RuntimeError):
    """The loss or the gradient is no number any more; going on would only hide it."""


def rate_at(step: int, settings: Optimisation) -> float:
    """The learning rate of a step, the first being 0."""
    warm = math.ceil(settings.warmup * settings.steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    if settings.schedule == "constant":
        return settings.learning_rate
    fall = (1 + math.cos(math.pi * done)) / 2 if settings.schedule == "cosine" else 1 - done
    return settings.learning_rate * (settings.final_rate + (1 - settings.final_rate) * fall)


def precision_on(device: torch.device, settings: Optimisation) -> Literal["fp32", "bf16"]:
    """The type of the computation on a device."""
    if settings.precision == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return settings.precision


class Learner:
    """A model with its optimizer inside DeepSpeed."""

    def __init__(
        self,
        model: Any,
        settings: Optimisation,
        hardware: TuningHardware,
        world: World,
        saved: Any = None,
    ):
        self.settings, self.hardware, self.world = settings, hardware, world
        tensors = saved.tensors() if saved else {}
        if saved:
            restore_parameters(model, tensors)
        if hardware.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        config = build_config(
            hardware.zero_stage,
            precision_on(world.device, settings),
            world.size,
            sum(p.numel() for p in model.parameters()),
            settings.max_grad_norm,
        )
        self.engine = initialize(
            model.to(world.device), decay_groups(model, settings.weight_decay), self._optimizer, config
        )
        if saved:
            restore_optimizer(self.engine, tensors, saved.state["optimizer"])

    def _optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate, betas=self.settings.betas)

    def update(self, chunks: Sequence[Chunk], rate: float) -> Facts:
        """One optimizer step on the sum of the chunks' losses over all processes."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        self.engine.train()
        total = 0.0
        for i, chunk in enumerate(chunks):
            self.engine.set_gradient_accumulation_boundary(i == len(chunks) - 1)
            loss = chunk(self.engine)
            total += loss.item()
            self.engine.backward(loss * self.world.size)  # DeepSpeed takes the mean over processes
        norm = self._gradient_norm()
        self.engine.step()
        norm = self.engine.get_global_grad_norm() if norm is None else norm
        facts = {"loss": self.world.total(total), "grad_norm": float(norm or 0.0)}
        if not all(math.isfinite(value) for value in facts.values()):
            raise LearningFailed(
                f"loss {facts['loss']}, gradient norm {facts['grad_norm']}: training stops here"
            )
        return facts

    def _gradient_norm(self) -> float | None:
        """The gradient's norm where ZeRO does not tell it: at stage 0 gradients are whole and plain."""
        if self.hardware.zero_stage:
            return None
        gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything that a step changes; all processes must ask together."""
        tensors, optimizer = training_tensors(self.engine)
        return tensors, {"optimizer": optimizer}

    def finished(self) -> Any:
        """The plain model with its master weights in float32; all processes must ask together."""
        model = self.engine.module
        values = {
            name: full_parameter(p).to("cpu", torch.float32, copy=True)
            for name, p in model.named_parameters()
        }
        return model, values


def learn(
    model: Any,
    settings: Optimisation,
    site: Site[Any],
    what: str,
    step: Callable[[Learner, int, float], Facts],
) -> Learner:
    """Run all steps, from the newest checkpoint on; `step` does one and returns what the log should say.

    The log lies in `scratch/log.jsonl`, a line a step, without gaps or repeats however often the run
    was interrupted.
    """
    checkpoints = Checkpoints(site.scratch / "checkpoints")
    saved = checkpoints.latest()
    start = saved.step if saved else 0
    learner = Learner(model, settings, site.hardware, site.world, saved)
    if start:
        log.info("%s: going on from step %d of %d", what, start, settings.steps)
    journal = Journal(site.scratch / "log.jsonl", start, site.world.is_main)
    with Progress(what, settings.steps, "steps", done=start) as progress:
        for number in range(start, settings.steps):
            began = time.monotonic()
            rate = rate_at(number, settings)
            facts = step(learner, number, rate)
            seconds = round(time.monotonic() - began, 4)
            journal.write({"step": number + 1, **facts, "learning_rate": rate, "seconds": seconds})
            progress.advance(1, **{k: facts[k] for k in list(facts)[:3]})
            _save_or_leave(learner, checkpoints, site, number + 1, what)
    return learner


def _save_or_leave(learner: Learner, checkpoints: Checkpoints, site: Site[Any], done: int, what: str) -> None:
    """Write a checkpoint when one is due, and leave when this process is asked to."""
    steps = learner.settings.steps
    asked = site.world.any(site.leaving.asked)
    due = done % site.hardware.checkpoint_every == 0 and done < steps
    if asked or due:
        tensors, state = learner.state()
        if site.world.is_main:
            checkpoints.save(done, tensors, state)
        site.world.wait()
    if asked:
        raise Interrupted(f"{what}: left after step {done} of {steps}; run it again to go on")


class Journal:
    """A log of one JSON object a step."""

    def __init__(self, path: Path, start: int, active: bool = True):
        self.path, self.active = path, active
        if active:
            kept = read_journal(path)[:start]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(_line(entry) for entry in kept), encoding="utf-8")

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add one step's line."""
        if self.active:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_line(entry))


def _line(entry: Mapping[str, Any]) -> str:
    rounded = {k: round(v, 6) if isinstance(v, float) and abs(v) > 1e-3 else v for k, v in entry.items()}
    return json.dumps(rounded) + "\n"


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log, in order; a line that a kill cut off ends it."""
    entries: list[dict[str, Any]] = []
    if not path.is_file():
        return entries
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries
