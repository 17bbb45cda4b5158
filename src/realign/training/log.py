"""A training's log: lines of JSON by step, and the same numbers in TensorBoard and, where asked for, W&B."""

from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.engine.steplog import StepLog


class TrainingLog(StepLog):
    """A step log whose numbers can be looked at too; the lines are the record.

    `wandb` names a project of W&B and `key` tells trainings of one name apart: a training that goes on has
    the key that it had.
    """

    def __init__(self, path: Path, events: Path, wandb: str | None, name: str, key: str, resumed: int):
        super().__init__(path, resumed)
        from torch.utils.tensorboard import SummaryWriter

        self._events = SummaryWriter(str(events), purge_step=resumed + 1 if resumed else None)
        self._wandb = _start_wandb(wandb, name, key) if wandb else None

    def write(self, step: int, **facts: Any) -> None:
        """Add the facts of a step; numbers go to TensorBoard and W&B too."""
        super().write(step, **facts)
        numbers = {k: v for k, v in facts.items() if isinstance(v, int | float)}
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        if self._wandb is not None and numbers:
            self._wandb.log(numbers, step=step)

    def close(self) -> None:
        """Everything is written."""
        super().close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish()


def _start_wandb(project: str, name: str, key: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"wandb_project is set and wandb cannot be imported ({error}); `pip install wandb`"
        ) from None
    # A run of W&B takes no step twice: another training of the same name must not continue it.
    return wandb.init(project=project, name=name, id=key, resume="allow")
