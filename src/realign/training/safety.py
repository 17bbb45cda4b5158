"""When a training must not go on: NaN, collapse, processes that no longer agree."""

import math
from collections.abc import Sequence

import torch

from realign.engine.deepspeed_setup import trainable
from realign.engine.distributed import World
from realign.engine.loop import TrainingStopped
from realign.study.recipe import Safety


class SafetyChecks:
    """Look at every step; the same on all processes, so that all stop together."""

    def __init__(self, settings: Safety, world: World, warmup: int):
        self.settings, self.world, self.warmup = settings, world, warmup
        self._collapsed = 0

    def check_step(
        self, step: int, losses: Sequence[float], batches: Sequence[float], mean_cosine: float
    ) -> None:
        """`losses` and `batches` hold each process's loss and its number for the batch."""
        if not all(map(math.isfinite, losses)):
            raise TrainingStopped(f"step {step}: the loss is {losses[0]}; a lower learning rate may help")
        if len(set(batches)) > 1:
            raise TrainingStopped(f"step {step}: the processes have different batches ({batches})")
        if max(losses) - min(losses) > 1e-4 * max(1.0, abs(losses[0])):
            raise TrainingStopped(f"step {step}: the processes disagree on the loss ({losses})")
        self._collapsed = self._collapsed + 1 if mean_cosine > self.settings.collapse_cosine else 0
        if step > self.warmup and self._collapsed >= self.settings.collapse_patience:
            raise TrainingStopped(
                f"step {step}: the queries have collapsed to a mean cosine of {mean_cosine:.4f} "
                f"(safety.collapse_cosine is {self.settings.collapse_cosine})"
            )

    def compare_parameters(self, step: int, model: torch.nn.Module) -> None:
        """Stop when processes that each hold all parameters hold different ones.

        GPUs of different types may add up the same numbers in another order: their sums may differ in
        the last digits of fp64, by far less than one parameter's last digit.
        """
        if self.world.size == 1:
            return
        sums, sizes = [], []
        for parameter in trainable(model).values():
            if not hasattr(parameter, "ds_id"):
                value = parameter.detach()
                sums.append(value.sum(dtype=torch.float64).item())
                sizes.append(torch.linalg.vector_norm(value, 1, dtype=torch.float64).item())
        for theirs in self.world.gather_objects(sums):
            apart = (abs(a - b) for a, b in zip(sums, theirs, strict=True))
            agree = all(off <= 1e-13 * size for off, size in zip(apart, sizes, strict=True))
            if not agree:
                raise TrainingStopped(f"step {step}: the processes hold different parameters")
