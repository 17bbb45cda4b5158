"""What a cluster's queue says: which jobs wait, and which a run left there when its Snakemake was killed.

The SLURM executor can't take up such jobs again; a new run would submit every one of them a second
time. Jobs carry their run's name, which the run's record holds, so they are found and doubling them
is refused. Elsewhere than on SLURM there is nothing to find.
"""

import json
import logging
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError

log = logging.getLogger(__name__)
PATIENCE = 60.0  # seconds that a queue has for its answer


@dataclass(frozen=True)
class QueuedJob:
    """A job in the queue: its number, state and user, and the rule and wildcards it was submitted for."""

    number: str
    state: str
    user: str
    what: str


def name_in_queue(workflow: Any) -> str | None:
    """The name that this run's jobs have in the queue; executors without a queue have none."""
    executor = getattr(getattr(workflow, "scheduler", None), "_executor", None)
    return getattr(executor, "run_uuid", None)


def refuse_doubles(records: Path, queued: bool = True) -> None:
    """Stop a run that would submit again what an earlier run still has in the queue.

    A run without a queue of its own (`queued` is false) starts also where the queue of an earlier one can't
    be asked any more, as on a machine that was part of a cluster once.
    """
    try:
        jobs = left_in_queue(records)
    except UserError as error:
        if queued:
            raise
        log.warning("whether an earlier run left jobs in a cluster's queue is not known: %s", error)
        return
    if jobs:
        raise UserError("\n".join(say_left(jobs)))


def say_left(jobs: Sequence[QueuedJob]) -> list[str]:
    """The lines that tell a person of jobs left in the queue, and what to do about them."""
    me = user_here()
    mine = [job.number for job in jobs if job.user == me]
    cancel = [f"cancel them: scancel {' '.join(mine)}"] if mine else []
    if others := sorted({job.user for job in jobs} - {me}):
        cancel.append(f"ask {', '.join(others)} to cancel theirs")
    return [
        f"{len(jobs)} jobs of an earlier run of this study are still in the queue:",
        *(f"  {job.number} {job.state.lower()}{_of(job, me)}: {job.what}" for job in jobs),
        "Wait until they are done (what they finish is kept and published in seconds), or "
        + ", and ".join(cancel),
    ]


def _of(job: QueuedJob, me: str) -> str:
    return f" ({job.user})" if job.user != me else ""


def user_here() -> str:
    """Whose process this is, by the name that a queue knows; by number where there is none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def left_in_queue(records: Path) -> list[QueuedJob]:
    """The jobs of earlier runs that wait or run, whoever submitted them."""
    names = [name for record in sorted(records.glob("*.json")) if (name := queue_of(record))]
    if not names or shutil.which("squeue") is None:
        return []
    said = _ask(f"--name={','.join(names)}", "--format=%i|%T|%u|%k")
    return [QueuedJob(*line.split("|", 3)) for line in said]


def queue_of(record: Path) -> str | None:
    """The name that a run's jobs have in the queue, by the run's record."""
    return json.loads(record.read_text(encoding="utf-8")).get("queue") if record.is_file() else None


def states_in_queue(name: str | None) -> dict[str, tuple[str, str]] | None:
    """The state and the reason to wait of a run's jobs, by number; nothing where it has no queue."""
    if not name or shutil.which("squeue") is None:
        return None
    lines = (line.split("|", 2) for line in _ask(f"--name={name}", "--states=all", "--format=%i|%T|%r"))
    return {number: (state, reason) for number, state, reason in lines}


def _ask(*words: str) -> list[str]:
    """The lines that the queue answers with."""
    asked = ["squeue", "--noheader", *words]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"the queue can't be asked: {error}") from None
    if said.returncode != 0:
        raise UserError(f"the queue can't be asked: {said.stderr.strip()}")
    return said.stdout.splitlines()
