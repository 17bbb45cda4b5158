"""What a run of the workflow froze at its start, and the check that a job still runs that code.

On a cluster a job may start hours after it was planned, and reads study and package anew. So the
run records its study and every command's fingerprint when it starts. Its jobs use the study as
recorded; a job whose code differs stops and says so, instead of making what nobody planned.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realign.artifacts.command import RUN_VARIABLE, Command, UserError
from realign.artifacts.fingerprint import reachable
from realign.commands import STAGES, load_command


def name_run(folder: Path) -> Path:
    """Choose where a run's record will lie and tell its jobs; writes nothing."""
    place = Path(folder).absolute() / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"
    return Path(os.environ.setdefault(RUN_VARIABLE, str(place)))


def freeze(place: Path, study: Mapping[str, Any], queue: str | None = None) -> None:
    """Record a run's study and fingerprints, once, when it starts; `queue` names its jobs on a cluster."""
    if place.exists():
        return
    commands = {name: load_command(name) for name in STAGES}
    record = {
        "study": study,
        "queue": queue,
        "code": {name: command.code for name, command in commands.items()},
        "modules": {n: reachable(c.run.split(":")[0]) for n, c in commands.items()},
    }
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def hand_on(place: Path, workflow: Any) -> None:
    """Let a cluster's jobs be given the record as their study file, whatever becomes of the study's own.

    Each reads that file before the workflow could tell it of the record, and a file that is half saved
    or moved away would end it.
    """
    from snakemake_interface_executor_plugins.settings import SharedFSUsage

    settings = workflow.config_settings
    if settings.configfiles and SharedFSUsage.SOURCES in workflow.storage_settings.shared_fs_usage:
        settings.configfiles = [place]


def read_frozen() -> dict[str, Any] | None:
    """The record of the run that this process belongs to, if it belongs to one."""
    place = os.environ.get(RUN_VARIABLE)
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
