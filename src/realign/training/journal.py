"""What a training writes down as it goes: JSON lines, TensorBoard events, and W&B where asked for.

The JSON lines are the record; the rest is for looking at. A training that goes on from a checkpoint
cuts off what was written after it, so the record never tells a step twice.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Writes facts by step; `events` names a folder for TensorBoard, `wandb` a project.

    `key` tells trainings of one name apart; a training that goes on has the key that it had.
    """

    def __init__(self, path: Path, events: Path, wandb: str | None, name: str, key: str, resumed: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_journal(path) if line.get("step", 0) <= resumed] if resumed else []
        self._stream = path.open("w", encoding="utf-8", buffering=1)
        for line in kept:
            self._put(line)
        from torch.utils.tensorboard import SummaryWriter

        self._events = SummaryWriter(str(events), purge_step=resumed + 1 if resumed else None)
        self._wandb = _start_wandb(wandb, name, key) if wandb else None

    def write(self, step: int, **facts: Any) -> None:
        """Add the facts of a step; numbers go to TensorBoard and W&B too."""
        self._put({"step": step, **facts})
        numbers = {k: v for k, v in facts.items() if isinstance(v, int | float)}
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        if self._wandb is not None and numbers:
            self._wandb.log(numbers, step=step)

    def _put(self, line: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Everything is written."""
        self._stream.close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish()


def _start_wandb(project: str, name: str, key: str) -> Any:
    from realign.artifacts.command import UserError

    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"wandb_project is set and wandb cannot be imported ({error}); `pip install wandb`"
        ) from None
    # A run of W&B takes no step twice: another training of the same name must not continue it.
    return wandb.init(project=project, name=name, id=key, resume="allow")


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal; a last line that a kill cut short is left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return
