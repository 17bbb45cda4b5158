"""What is made from the sections: the schema for editors and the configuration reference.

`--check` fails when a committed file is out of date.
"""

import argparse
import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from realign.study.errors import models_in
from realign.study.study import Study

REFERENCE = Path("docs/configuration.md")
SCHEMA = Path("docs/study.schema.json")


def schema() -> str:
    """The JSON schema of a study file."""
    return json.dumps(Study.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def reference() -> str:
    """The configuration reference: every section and every setting, in the order of a study."""
    lines = [
        "# Configuration",
        "",
        "Made by `make docs` from the sections in `src/realign/study/`; do not edit. A study is one YAML",
        "file. Unknown keys are errors. `realign init my-study.yaml` writes a commented start; for",
        "completion and checks while you type, point your editor's YAML schema at",
        "`docs/study.schema.json`.",
        "",
        "| key | what it is |",
        "|---|---|",
    ]
    for name, info in Study.model_fields.items():
        lines.append(f"| [`{name}`](#{name}) | {info.description} |")
    told: set[type[BaseModel]] = set()
    for name, info in Study.model_fields.items():
        lines += ["", f"## {name}", "", info.description or ""]
        if models := models_in(info.annotation):
            for model in models:
                lines += _section(model, told)
        else:
            lines += ["", f"A {kind(info.annotation)}; {_default(info)}."]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    """A default's parts as JSON has them."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else list(value)


def _section(model: type[BaseModel], told: set[type[BaseModel]]) -> Iterator[str]:
    if model in told:
        return
    told.add(model)
    yield from ["", f"### {model.__name__}", "", (model.__doc__ or "").strip(), ""]
    yield from ["| setting | type | default | what it does |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        unit = _unit(info)
        text = f"{info.description or ''}{f' In {unit}.' if unit else ''}".replace("|", "\\|")
        yield f"| `{name}` | {kind(info.annotation)} | {_default(info)} | {text} |"
    for info in model.model_fields.values():
        for below in models_in(info.annotation):
            yield from _section(below, told)


def kind(annotation: Any) -> str:
    """A type as a person would say it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(a) for a in arguments if a is not type(None)) + (
            " or nothing" if type(None) in arguments else ""
        )
    if origin in (list, tuple):
        return f"list of {kind(arguments[0])}"
    if origin in (dict, Mapping):
        return f"{kind(arguments[0])} → {kind(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _unit(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "its defaults"
    if value is None:
        return "nothing"
    text = json.dumps(value, default=_plain, ensure_ascii=False)
    text = text.replace("|", "\\|")
    return f"`{text}`" if len(text) <= 60 else "see the starter study"


def undocumented() -> list[str]:
    """Settings that lack their sentence; there must be none."""
    missing, waiting, told = [], [Study], set()
    while waiting:
        model = waiting.pop()
        if model in told:
            continue
        told.add(model)
        for name, info in model.model_fields.items():
            if not info.description:
                missing.append(f"{model.__name__}.{name}")
            waiting.extend(m for m in models_in(info.annotation))  # type: ignore[misc]
    return sorted(missing)


def files() -> dict[Path, str]:
    """Every generated file and what it must hold."""
    return {REFERENCE: reference(), SCHEMA: schema()}


def main(words: Sequence[str] | None = None) -> int:
    """Write the generated files, or check that they are up to date."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args(words)
    if missing := undocumented():
        print("settings without a sentence: " + ", ".join(missing), file=sys.stderr)
        return 1
    stale = [p for p, text in files().items() if not p.is_file() or p.read_text("utf-8") != text]
    if arguments.write:
        for path, text in files().items():
            path.write_text(text, encoding="utf-8")
    elif stale:
        print(f"out of date: {', '.join(map(str, stale))}; run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
