"""What a training writes down as it goes: a line of JSON a step, without gaps or repeats."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class StepLog:
    """Writes facts by step; without a path, as on all processes but one, it writes nothing.

    A training that goes on from the checkpoint of step `resumed` does later steps again, so their lines
    are cut off, and so is a line that a kill left half-written.
    """

    def __init__(self, path: Path | None, resumed: int = 0):
        self._stream = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+", encoding="utf-8", buffering=1)
            self._stream.truncate(_size_up_to(path, resumed) if resumed else 0)

    def write(self, step: int, **facts: Any) -> None:
        """Add the facts of a step."""
        if self._stream is not None:
            self._stream.write(json.dumps({"step": step, **facts}, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Everything is written."""
        if self._stream is not None:
            self._stream.close()


def read_steps(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; a last line that a kill cut short is left out."""
    for line, _ in _whole_lines(path):
        yield line


def _size_up_to(path: Path, step: int) -> int:
    """The size of the log's part that tells of steps up to this one."""
    size = 0
    for line, end in _whole_lines(path):
        if line["step"] > step:
            break
        size = end
    return size


def _whole_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole line and the place in the file where it ends."""
    end = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        end += len(line)
        if not line.endswith(b"\n"):
            return
        try:
            yield json.loads(line), end
        except json.JSONDecodeError:
            return
