"""The flags of a stage's command, made from its settings section, its inputs and its outputs."""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from realign.artifacts.command import Command, S, UserError
from realign.study.base import Section
from realign.study.errors import describe


@dataclass(frozen=True)
class Request:
    """What a command line asks for, checked."""

    settings: Section
    inputs: dict[str, Path | list[Path]]
    outputs: dict[str, Path]
    code: str | None
    store: Path


def _flags(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _flags(kind, (*prefix, name))
        else:
            yield (*prefix, name), info


def build_parser(command: Command[Any]) -> argparse.ArgumentParser:
    """A parser with a flag for each setting, input and output of a command."""
    parser = argparse.ArgumentParser(f"realign {command.name}", description=command.help, allow_abbrev=False)
    reads = parser.add_argument_group("reads")
    for name, given in command.inputs.items():
        reads.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"in:{name}",
            type=Path,
            # a rule leaves the flag of an optional input without a path where it has none
            nargs="*" if given.many else None if given.required else "?",
            required=given.required,
            help=given.help,
            metavar="PATH",
        )
    makes = parser.add_argument_group("makes")
    for name, made in command.outputs.items():
        makes.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"out:{name}",
            type=Path,
            required=made.required,
            help=made.help,
            metavar="PATH",
        )
    settings = parser.add_argument_group("settings (YAML values; they override --settings)")
    settings.add_argument("--settings", metavar="JSON|@FILE", help="all settings at once")
    for path, info in _flags(command.settings):
        default = info.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else f"default {default!r}"
        text = f"{info.description or ''} ({shown})".replace("%", "%%")
        flag = ".".join(path).replace("_", "-")
        settings.add_argument(f"--{flag}", dest="set:" + ".".join(path), help=text, metavar="VALUE")
    run = parser.add_argument_group("run")
    run.add_argument("--job", help="settings and code as a workflow rule passes them (JSON)")
    run.add_argument("--store", type=Path, help="work store (default: results/.work)")
    run.add_argument("--log", type=Path, help="also write the log to this file")
    run.add_argument("--threads", type=int, default=0, help="CPU threads (default: the machine's)")
    run.add_argument(
        "--gpus", type=int, default=0, help="GPUs that the job was given: it does not work without them"
    )
    run.add_argument(
        "--warning-seconds", type=int, default=0, help="how long before its time limit SLURM warns the job"
    )
    run.add_argument("--done-by", metavar="RULE", help="only publish, since that rule's jobs do the work")
    run.add_argument("--force", action="store_true", help="do the work again even if it is sealed")
    return parser


def _put(settings: dict[str, Any], path: list[str], value: Any) -> None:
    for step in path[:-1]:
        settings = settings.setdefault(step, {})
    settings[path[-1]] = value


def read_request(command: Command[Any], arguments: argparse.Namespace) -> Request:
    """The request that parsed flags make, with every error in the settings told at once."""
    given = vars(arguments)
    job = json.loads(arguments.job) if arguments.job else {}
    settings = dict(job.get("settings", {}))
    if arguments.settings:
        settings |= _all_settings(arguments.settings)
    for key, value in given.items():
        if key.startswith("set:") and value is not None:
            _put(settings, key[4:].split("."), _yaml(value))
    return Request(
        checked_settings(command.settings, settings),
        {k[3:]: v for k, v in given.items() if k.startswith("in:") and v not in (None, [])},
        {k[4:]: v for k, v in given.items() if k.startswith("out:") and v is not None},
        job.get("code"),
        arguments.store or Path(job.get("store", "results/.work")),
    )


def checked_settings(section: type[S], given: Mapping[str, Any]) -> S:
    """Settings from plain values, with every error in them told at once."""
    try:
        return section.model_validate(given)
    except ValidationError as error:
        lines = describe(error, section)
        raise UserError("the settings are not usable:\n" + "\n".join(f"  - {x}" for x in lines)) from None


def _all_settings(given: str) -> dict[str, Any]:
    """What `--settings` gives: a mapping, or `@` and the name of a file that holds one."""
    text = given
    if given.startswith("@"):
        try:
            text = Path(given[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--settings {given}: the file can't be read ({error})") from None
    settings = _yaml(text)
    if not isinstance(settings, dict):
        raise UserError(f'--settings {given}: a mapping is wanted, such as {{"seed": 1}}')
    return settings


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or "it can't be read"
        raise UserError(f"not a YAML value: {text!r}: {reason}") from None
