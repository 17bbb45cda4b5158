"""What a workflow run froze at its start, and the check that a job still runs that code.

On a cluster a job may start hours after it was planned and reads the package anew. The run
records every command's fingerprint when it starts; a job whose own differs stops and says so,
instead of making a result that nobody planned.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realign.artifacts.command import Command, UserError
from realign.artifacts.fingerprint import reachable

VARIABLE = "REALIGN_RUN"


def freeze(folder: Path, run_id: str, study: Mapping[str, Any], commands: Mapping[str, Command[Any]]) -> Path:
    """Record a run's settings and fingerprints; returns the record that jobs compare with."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run_id}.json"
    record = {
        "study": study,
        "code": {name: command.code for name, command in commands.items()},
        "modules": {n: reachable(c.run.split(":")[0]) for n, c in commands.items()},
    }
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def read_frozen() -> dict[str, Any] | None:
    """The record of the run that this process belongs to, if it belongs to one."""
    place = os.environ.get(VARIABLE)
    if not place or not Path(place).is_file():
        return None
    return json.loads(Path(place).read_text(encoding="utf-8"))


def check_frozen(command: Command[Any], planned: str | None) -> None:
    """Stop a job whose code is no longer the code that its run was planned with."""
    frozen = read_frozen()
    expected = frozen["code"].get(command.name) if frozen else planned
    if expected is None or expected == command.code:
        return
    then = frozen["modules"].get(command.name, {}) if frozen else {}
    now = reachable(command.run.split(":")[0])
    changed = sorted(m for m in {*then, *now} if then.get(m) != now.get(m)) if then else []
    raise UserError(
        "the code changed after this run was planned"
        + (f" ({', '.join(changed)})" if changed else "")
        + "; start the workflow again, and only what is stale will run"
    )
