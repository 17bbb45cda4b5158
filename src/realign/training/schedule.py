"""The learning rate as a function of the step alone, so that there is no scheduler to save."""

import math

from realign.study.recipe import Optimizer


def warmup_steps(settings: Optimizer, steps: int) -> int:
    """Steps in which the learning rate rises."""
    return math.ceil(settings.warmup * steps)


def learning_rate(settings: Optimizer, step: int, steps: int) -> float:
    """The learning rate of a step, counted from 0; the warm-up's first step has a share of it too."""
    rising = warmup_steps(settings, steps)
    if step < rising:
        return settings.learning_rate * (step + 1) / (rising + 1)
    gone = (step - rising) / max(1, steps - rising)
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * gone))
    if settings.schedule == "linear":
        return settings.learning_rate * (1 - gone)
    return settings.learning_rate
