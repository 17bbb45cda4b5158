"""The text and problems that a backbone is made from and judged by, and which text is held out."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from realign.artifacts.command import UserError
from realign.text.problems import Problem, read_problems
from realign.text.select import in_share
from realign.text.streams import LineError, read_objects


@dataclass(frozen=True)
class Text:
    """One piece of ordinary text."""

    id: str
    text: str

    def is_held_out(self, share: float) -> bool:
        """Whether this text is among the share that is never trained on; its id alone decides."""
        return in_share(hashlib.sha256(self.id.encode()).digest(), share)


def read_texts(path: Path) -> Iterator[Text]:
    """The texts of a JSONL file with `id` and `text`."""
    for number, value in read_objects(path):
        if isinstance(value, LineError):
            raise value
        if not isinstance(value.get("text"), str) or not value["text"].strip():
            raise LineError(path, number, "'text' is missing or empty")
        yield Text(str(value.get("id", number)), value["text"])


def read_all_problems(path: Path, least: int = 1) -> list[Problem]:
    """The problems of a file, of which there must be some."""
    problems = list(read_problems(path))
    if len(problems) < least:
        raise UserError(f"{path} holds {len(problems)} problems, and {least} are needed")
    return problems
