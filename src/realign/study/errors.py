"""Turning what is wrong with a study into lines that a person can act on."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from realign.study.base import NAME_PATTERN


class StudyError(Exception):
    """Everything that is wrong with one study file, a line each."""

    def __init__(self, source: str | Path, problems: Sequence[str]):
        self.source = str(source)
        self.problems = list(problems)
        count = len(self.problems)
        head = f"{self.source}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  - {p}" for p in self.problems)]))


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` when a known word is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in get_args(annotation) for m in models_in(arg)]


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that are allowed where `location` points, found by walking the sections."""
    models = [model]
    for step in location:
        fields = [m.model_fields[str(step)] for m in models if str(step) in m.model_fields]
        if fields:
            models = [m for info in fields for m in models_in(info.annotation)]
        # any other step is a list index, a mapping's key or a union's tag: the section stays
    return sorted({key for m in models for key in m.model_fields})


def _path(location: Sequence[int | str]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text or "(top level)"


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each thing pydantic refused: where it is, what it is, what would do."""
    lines = []
    for problem in error.errors(include_url=False):
        where, kind = problem["loc"], problem["type"]
        if kind == "extra_forbidden":
            known = _known_keys(model, where[:-1])
            hint = nearest(str(where[-1]), known) or f" (known here: {', '.join(known)})"
            lines.append(f"{_path(where)}: unknown key{hint}")
        elif kind == "missing":
            lines.append(f"{_path(where)}: missing, and has no default")
        elif kind == "string_pattern_mismatch" and problem["ctx"]["pattern"] == NAME_PATTERN:
            lines.append(
                f"{_path(where)}: {problem['input']!r} is not safe as a name; "
                "use letters, digits, '.', '_' and '-', and begin with a letter or digit"
            )
        else:
            message = problem["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(problem["input"], dict | list) else f" (got {problem['input']!r})"
            lines.append(f"{_path(where)}: {message[0].lower() + message[1:]}{shown}")
    return lines
