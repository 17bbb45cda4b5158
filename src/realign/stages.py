"""Every stage from Python: the work that the command line does, under the same keys in the same store.

    from realign.stages import run

    run("mine", raw="pairs.jsonl", pairs="mined.jsonl", settings={"lexical": {}})

A stage's inputs, outputs and settings are those that `realign STAGE --help` lists. What was made once
from the same inputs, settings and code is put in place again in seconds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realign.commands import STAGES, load_command

Given = str | Path | Sequence[str | Path]


def run(
    stage: str,
    *,
    settings: Mapping[str, Any] | None = None,
    store: str | Path = "results/.work",
    threads: int = 1,
    force: bool = False,
    **files: Given,
) -> dict[str, Path]:
    """Run one stage on files of your own; where its outputs lie, by name.

    `files` are the stage's inputs and outputs by name, a list where an input takes several. A setting,
    a file or a stage that is not known is a `UserError` that says so.
    """
    from realign.artifacts.arguments import checked_settings
    from realign.artifacts.command import UserError, execute
    from realign.artifacts.store import WorkStore
    from realign.study.errors import nearest

    if stage not in STAGES:
        raise UserError(f"no stage '{stage}'{nearest(stage, STAGES)}")
    command = load_command(stage)
    for name in files:
        if name not in {**command.inputs, **command.outputs}:
            known = [*command.inputs, *command.outputs]
            raise UserError(f"{stage}: no file '{name}'{nearest(name, known)}; it takes {', '.join(known)}")
    for name, declared in {**command.inputs, **command.outputs}.items():
        if declared.required and name not in files:
            raise UserError(f"{stage}: '{name}' is missing: {declared.help}")
    inputs: dict[str, Path | list[Path]] = {
        name: Path(given) if isinstance(given, str | Path) else [Path(path) for path in given]
        for name, given in files.items()
        if name in command.inputs
    }
    for name, declared in command.inputs.items():
        if declared.many and isinstance(path := inputs.get(name), Path):
            inputs[name] = [path]
    outputs = {name: Path(str(files[name])) for name in command.outputs if name in files}
    asked = checked_settings(command.settings, settings or {})
    execute(command, asked, inputs, outputs, WorkStore(Path(store)), threads, force)
    return outputs
