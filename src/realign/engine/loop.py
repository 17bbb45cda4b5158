"""What trainings share around their steps: going on, the learning rate, checkpoints, leaving, stopping.

A step is a function of its number: what it learns from, its learning rate and its random state follow
from seeds and the number. A checkpoint therefore holds only what steps change, parameters and optimizer
states. A training that goes on from one is the training that was never stopped, on however many
processes it goes on.
"""

import logging
import math
import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from realign.artifacts.command import Interrupted, UserError
from realign.engine.checkpoints import Checkpoints
from realign.engine.deepspeed_setup import training_tensors
from realign.engine.distributed import World
from realign.engine.progress import Progress
from realign.engine.signals import WARNING, Leaving
from realign.study.backbones import Optimisation
from realign.study.recipe import Optimizer

log = logging.getLogger(__name__)


class TrainingStopped(UserError):
    """The training stopped by itself; the message says why and at which step."""


def stop_unless_finite(step: int, what: str, value: float | None) -> None:
    """Stop when a step led to no number: the step before it must be the last one saved."""
    if value is not None and not math.isfinite(value):
        raise TrainingStopped(f"step {step}: the {what} is {value}; a lower learning rate may help")


def warmup_steps(settings: Optimizer | Optimisation, steps: int) -> int:
    """Steps in which the learning rate rises."""
    return math.ceil(settings.warmup * steps)


def learning_rate(
    settings: Optimizer | Optimisation, step: int, steps: int, final: float = 0.0, rise: int | None = None
) -> float:
    """The learning rate of a step, counted from 0.

    It rises over `rise` steps, by default the warm-up's and the one after it, and the first step has a
    share of it too. Afterwards it falls to the share `final` of the highest.
    """
    warmup = warmup_steps(settings, steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (rise or warmup + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    gone = (step - warmup) / max(1, steps - warmup)
    fall = (1 + math.cos(math.pi * gone)) / 2 if settings.schedule == "cosine" else 1 - gone
    return settings.learning_rate * (final + (1 - final) * fall)


class Loop:
    """The steps that are left of a training; all processes go through them together."""

    def __init__(
        self,
        what: str,
        steps: int,
        save_every: int,
        save_minutes: float,
        scratch: Path,
        world: World,
        leaving: Leaving,
    ):
        self.what, self.steps, self.save_every, self.save_minutes = what, steps, save_every, save_minutes
        self.world, self.leaving = world, leaving
        self.checkpoints = Checkpoints(scratch / "checkpoints")
        self.saved = self.checkpoints.agreed(world)
        self.start = self.saved.step if self.saved else 0
        self._saved_at = time.monotonic()
        self._step_began, self._slowest_step = math.inf, 0.0

    def steps_left(self) -> Generator[int, None, None]:
        """The numbers of the steps that no checkpoint holds; the caller ends each with `end_step`.

        The caller closes the generator, and with it the progress, also when a step raises.
        """
        if self.start:
            log.info("%s: going on from step %d of %d", self.what, self.start, self.steps)
        every = 15.0 if self.world.is_main else math.inf
        with Progress(self.what, self.steps, "steps", every, self.start) as self.progress:
            for step in range(self.start, self.steps):
                self._step_began = time.monotonic()
                yield step

    def end_step(
        self, done: int, engine: Any, state: Mapping[str, Any], shown: Mapping[str, Any], save: bool = False
    ) -> None:
        """Save where a checkpoint is due or `save` asks for one; leave where a process was asked to."""
        self.progress.advance(1, **shown)
        now = time.monotonic()
        self._slowest_step = max(self._slowest_step, now - self._step_began)
        last = done == self.steps  # its weights are written out next, as the result
        late = self.world.is_main and now - self._saved_at >= 60 * self.save_minutes
        # One number for both questions, so that a step has one collective for them.
        word = self.world.largest(2.0 if self.leaving.asked else float(late))
        leave, due = word > 1 and not last, word > 0 or done % self.save_every == 0
        if save or (due and not last):
            self._save(done, engine, state)
        if leave:
            raise Interrupted(f"saved at step {done} of {self.steps}")

    def _save(self, done: int, engine: Any, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, and let the log tell where a job's warning before its limit is too short."""
        began = time.monotonic()
        tensors, optimizer = training_tensors(engine)
        if self.world.is_main:
            self.checkpoints.save(done, tensors, {"optimizer": optimizer, **state})
        self.world.wait()
        self._saved_at = time.monotonic()
        took = self._saved_at - began
        size = sum(tensor.nbytes for tensor in tensors.values()) / 1e9
        log.info("%s: saved step %d, %.1f GB in %.0f s", self.what, done, size, took)
        warned = int(os.environ.get(WARNING, 0))
        if warned and (needed := self._slowest_step + took) > warned:
            log.warning(
                "%s: a step and its save take %.0f s, and the cluster warns a job %d s before its limit; "
                "set warning_seconds of this rule's resources to more, or such a job loses its last steps",
                self.what,
                needed,
                warned,
            )
