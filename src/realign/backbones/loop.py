"""The loop that pretraining, fine-tuning and GRPO share, on one process as on many.

What a step learns from is the caller's business, given as chunks whose losses add up to the step's loss.
All choices of a step follow from its number (see `engine.loop`).
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from realign.backbones.site import Site
from realign.backbones.trail import Trail
from realign.engine.checkpoints import Checkpoint
from realign.engine.deepspeed_setup import (
    build_config,
    full_parameter,
    initialize_adamw,
    set_learning_rate,
)
from realign.engine.devices import precision_on
from realign.engine.distributed import World
from realign.engine.loop import Loop, learning_rate, stop_unless_finite, warmup_steps
from realign.engine.steplog import StepLog
from realign.study.backbones import Optimisation, TuningHardware

Chunk = Callable[[Any], torch.Tensor]  # a model's forward pass → this chunk's part of the step's loss
Facts = dict[str, float]


class Learner:
    """A model with its optimizer inside DeepSpeed."""

    def __init__(
        self,
        model: Any,
        settings: Optimisation,
        hardware: TuningHardware,
        world: World,
        saved: Checkpoint | None = None,
    ):
        self.settings, self.hardware, self.world = settings, hardware, world
        if hardware.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        config = build_config(
            hardware.zero_stage,
            precision_on(world.device, settings.precision),
            world.size,
            sum(p.numel() for p in model.parameters()),
            settings.max_grad_norm,
        )
        adamw = {"lr": settings.learning_rate, "betas": settings.betas}
        self.engine = initialize_adamw(model.to(world.device), settings.weight_decay, config, saved, **adamw)

    def update(self, chunks: Sequence[Chunk], rate: float) -> Facts:
        """One optimizer step on the sum of the chunks' losses over all processes."""
        set_learning_rate(self.engine, rate)
        self.engine.train()
        total = 0.0
        for i, chunk in enumerate(chunks):
            self.engine.set_gradient_accumulation_boundary(i == len(chunks) - 1)
            loss = chunk(self.engine)
            total += loss.item()
            self.engine.backward(loss * self.world.size)  # DeepSpeed takes the mean over processes
        norm = None
        if not self.hardware.zero_stage:  # here DeepSpeed does not tell the norm, and gradients are plain
            gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
            norm = float(torch.nn.utils.get_total_norm(gradients))
        self.engine.step()
        norm = self.engine.get_global_grad_norm() if norm is None else norm
        return {"loss": self.world.total(total), "grad_norm": float(norm or 0.0)}

    def finished(self) -> tuple[Any, dict[str, torch.Tensor]]:
        """The plain model, and on the first process its master weights; all processes must ask together."""
        model, values = self.engine.module, {}
        for name, parameter in model.named_parameters():
            whole = full_parameter(parameter)
            if self.world.is_main:  # a machine has no room for as many copies as it has processes
                values[name] = whole.to("cpu", torch.float32, copy=True)
        return model, values

    def close(self) -> None:
        """Free the engine's memory in a process that goes on; DeepSpeed's hooks would keep it for ever.

        One of many processes ends soon, and may wait here for peers that have failed.
        """
        if self.world.size == 1:
            self.engine.destroy()


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
    steps, rise = settings.steps, warmup_steps(settings, settings.steps)
    hardware = site.hardware
    loop = Loop(
        what,
        site.settings.stop or steps,
        hardware.checkpoint_every,
        hardware.checkpoint_minutes,
        site.scratch,
        site.world,
        site.leaving,
    )
    trail, log_file = Trail(site), site.scratch / "log.jsonl"
    trail.take_up(loop, log_file)
    learner = Learner(model, settings, hardware, site.world, loop.saved)
    lines = StepLog(log_file if site.world.is_main else None, loop.start)
    try:
        with contextlib.closing(lines) as log, contextlib.closing(loop.steps_left()) as steps_left:
            for number in steps_left:
                began = time.monotonic()
                rate = learning_rate(settings, number, steps, settings.final_rate, rise)
                facts = step(learner, number, rate)
                for name in ("loss", "grad_norm"):
                    stop_unless_finite(number + 1, name, facts[name])
                shown = {name: facts[name] for name in list(facts)[:3]}
                facts |= {"learning_rate": rate, "seconds": round(time.monotonic() - began, 4)}
                log.write(number + 1, **{k: round(v, 6) if abs(v) > 1e-3 else v for k, v in facts.items()})
                trail.mark(number + 1, learner.engine, log_file)
                loop.end_step(number + 1, learner.engine, {}, shown)
    except BaseException:
        learner.close()
        raise
    return learner
