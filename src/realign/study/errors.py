"""Turning what is wrong with a study into lines that a person can act on."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from realign.study.base import FORMS, NAME_PATTERN


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


def one_of(names: Iterable[str], what: str) -> AfterValidator:
    """A check that a setting names an entry of a table; `what` says in an error of which."""
    known = list(names)

    def check(name: str) -> str:
        if name not in known:
            hint = nearest(name, known) or f" (known here: {', '.join(known)})"
            raise ValueError(f"there is no such {what}{hint}")
        return name

    return AfterValidator(check)


def as_choice(names: Iterable[str]) -> WithJsonSchema:
    """How an editor's schema lists the entries of such a table."""
    return WithJsonSchema({"type": "string", "enum": list(names)})


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in get_args(annotation) for m in models_in(arg)]


def undeclared(name: str, backbones: Iterable[str]) -> str:
    """What is said of a backbone that the study names and does not have."""
    return f"no backbone '{name}'{nearest(name, backbones) or '; declare it under `backbones`'}"


def _sections(model: type[BaseModel], location: Sequence[int | str]) -> list[type[BaseModel]]:
    """The sections that `location` may point at, found by walking down from the top."""
    models = [model]
    for step in location:
        fields = [m.model_fields[str(step)] for m in models if str(step) in m.model_fields]
        if fields:
            models = [m for info in fields for m in models_in(info.annotation)]
        # any other step is a list index, a mapping's key or a union's tag: the section stays
    return models


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that are allowed where `location` points."""
    return sorted({key for section in _sections(model, location) for key in section.model_fields})


def _deeper(model: type[BaseModel], location: Sequence[int | str], key: str) -> list[str]:
    """Where a key would be known one section further down, as `section.key`."""
    return [
        f"{name}.{key}"
        for section in _sections(model, location)
        for name, info in section.model_fields.items()
        if get_origin(info.annotation) not in (dict, tuple)  # those hold many sections, by name or number
        and key in _known_keys(model, (*location, name))
    ]


def _path(location: Sequence[int | str]) -> str:
    text = ""
    for step in location:
        if step == "[key]":  # of a mapping: what is wrong with it says so
            continue
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text or "(top level)"


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each thing pydantic refused: where it is, what it is, what would do."""
    problems = error.errors(include_url=False)
    return [
        f"{_path(problem['loc'])}: {_say(problem, model)}"
        for problem in problems
        if not _follows(problem, problems)
    ]


def _say(problem: ErrorDetails, model: type[BaseModel]) -> str:
    where, kind, given = problem["loc"], problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"unknown key{_known_instead(model, where)}"
    if kind == "missing":
        return "missing, and has no default"
    if kind == "tuple_type":
        return _list_wanted(model, where, given)
    if kind in ("dict_type", "model_type"):
        return _mapping_wanted(model, where, given)
    if kind == "string_pattern_mismatch" and problem["ctx"]["pattern"] == NAME_PATTERN:
        return (
            f"{given!r} is not safe as a name; "
            "use letters, digits, '.', '_' and '-', and begin with a letter or digit"
        )
    if kind == "string_pattern_mismatch" and (what := FORMS.get(problem["ctx"]["pattern"])):
        return f"{given!r} is not {what}"
    message = problem["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(given, dict | list) else f" (got {given!r})"
    return f"{message[0].lower() + message[1:]}{shown}"


def _follows(problem: ErrorDetails, others: Iterable[ErrorDetails]) -> bool:
    """Whether a list lacks only items that are wrong themselves, or a key that is there misspelt."""
    where = problem["loc"]
    if problem["type"] == "too_short":
        return any(other["loc"][: len(where)] == where for other in others if other is not problem)
    if problem["type"] == "missing":
        unknown = [other["loc"] for other in others if other["type"] == "extra_forbidden"]
        return any(loc[:-1] == where[:-1] and nearest(str(loc[-1]), [str(where[-1])]) for loc in unknown)
    return False


def _known_instead(model: type[BaseModel], where: Sequence[int | str]) -> str:
    """What an unknown key may have been meant as."""
    parent, key = where[:-1], str(where[-1])
    if deeper := _deeper(model, parent, key):
        return f" (the setting is {' or '.join(deeper)})"
    known = _known_keys(model, parent)
    return nearest(key, known) or f" (known here: {', '.join(known)})"


def _mapping_wanted(model: type[BaseModel], where: Sequence[int | str], given: Any) -> str:
    """An example of the section, or of the sections by name, that stand where something else was given."""
    inside = next(iter(_sections(model, where)), None)
    fields = inside.model_fields if inside else {}
    keys = [name for name, info in fields.items() if info.is_required()] or list(fields)[:1]
    example = f"{{{', '.join(f'{key}: …' for key in keys)}}}" if keys else "{key: value}"
    known = [s.model_fields.get(str(where[-1])) for s in _sections(model, where[:-1])] if where else []
    by_name = any(info and get_origin(info.annotation) is dict for info in known)
    shape = f"{{a-name: {example}}}" if by_name and keys else example
    found = "a list" if isinstance(given, list) else repr(given)
    return f"a mapping is wanted, such as {shape} (got {found})"


def _list_wanted(model: type[BaseModel], where: Sequence[int | str], given: Any) -> str:
    """What to write where something else than a list was given: one value is a list of itself, mostly."""
    fields = (section.model_fields.get(str(where[-1])) for section in _sections(model, where[:-1]))
    lengths = [len(get_args(f.annotation)) for f in fields if f and ... not in get_args(f.annotation)]
    if lengths:
        return f"a list of {lengths[0]} values is wanted (got {given!r})"
    return "a list is wanted" + (f", such as [{given}]" if isinstance(given, str | int | float) else "")
