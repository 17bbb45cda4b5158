"""Reading a study file: one file, never merged with another, every error of it at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from realign.study.errors import StudyError, describe
from realign.study.study import Study


class _UniqueKeys(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; a study must not."""


def _unique_mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{key}' is given twice, on lines {seen[key]} and {line}"
            )
        seen[key] = line
    loader.flatten_mapping(node)
    return {loader.construct_object(k): loader.construct_object(v, deep=True) for k, v in node.value}


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, or a `StudyError` that says why it holds none."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 (a safe loader)
    except FileNotFoundError:
        raise StudyError(path, ["no such file"]) from None
    except IsADirectoryError:
        raise StudyError(path, ["this is a folder; name the study's file in it"]) from None
    except UnicodeDecodeError as error:
        at = f"not UTF-8 text: {error.reason} at byte {error.start}; save the file as UTF-8"
        raise StudyError(path, [at]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise StudyError(path, [f"{at}{_yaml_problem(error)}"]) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise StudyError(path, [f"not usable as YAML: {error}"]) from None
    except OSError as error:
        raise StudyError(path, [f"can't be read: {error.strerror}"]) from None
    if not isinstance(content, dict):
        nothing = "a study is a mapping of sections, and this file holds none; `realign init` writes one"
        raise StudyError(path, [nothing])
    return content


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """What is wrong with YAML, and for what people often meet also what to do."""
    problem = error.problem or "not usable as YAML"
    if "'\\t'" in problem:
        return "a tab, which YAML does not allow here; indent with spaces"
    if problem == "but found another document":
        return "a second document begins here; a file holds one study, so give the other a file of its own"
    return problem


def overlay(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with `changes` laid over it, key by key; lists and values are replaced whole."""
    merged = dict(content)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = (
            overlay(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def parse_study(content: Mapping[str, Any], source: str | Path = "study") -> Study:
    """A checked study from plain values; raises `StudyError` with all that is wrong."""
    try:
        study = Study.model_validate(content)
        problems = []
    except ValidationError as error:
        study, problems = _sound_part(content, error), describe(error, Study)
    problems += [*_numbers_from_booleans(content, study), *study.problems()]
    if problems:
        raise StudyError(source, problems)
    return study


def _sound_part(content: Mapping[str, Any], error: ValidationError) -> Study:
    """A study of the sections that nothing is wrong with; it lacks the others."""
    wrong = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
    sound = {k: v for k, v in content.items() if k in Study.model_fields and k not in wrong}
    study = Study.model_validate({"study": {"name": "nameless"}, "backbones": {}} | sound)
    for name in wrong:
        study.__dict__.pop(str(name), None)
    return study


def _numbers_from_booleans(given: Any, read: Any, path: str = "") -> Iterator[str]:
    """Where a study says true or false and a number was read from it, which pydantic lets pass."""
    if isinstance(given, bool):
        if isinstance(read, int | float) and not isinstance(read, bool):
            yield f"{path}: input should be a number (got {str(given).lower()})"
    elif isinstance(given, Mapping):
        for key, value in given.items():
            below = read.get(key) if isinstance(read, Mapping) else getattr(read, str(key), None)
            yield from _numbers_from_booleans(value, below, f"{path}.{key}" if path else str(key))
    elif isinstance(given, list) and isinstance(read, list | tuple):
        for i, (value, below) in enumerate(zip(given, read, strict=False)):
            yield from _numbers_from_booleans(value, below, f"{path}[{i}]")


def load_study(path: str | Path, changes: Mapping[str, Any] | None = None) -> Study:
    """The study in a YAML file, with command-line changes laid over it."""
    path = Path(path)
    return parse_study(overlay(read_yaml(path), changes or {}), path)
