"""What one attempt at a job teaches the next: kept beside the job's log, where every machine can read it.

A job that failed for what its user must mend (a setting, a file, a collapsed training) is never tried again.
Neither is one that failed alike several times in a row, unless time or another node may mend it. A job that
met its time limit gets a longer one, where its rule can't go on from what it saved.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realign.artifacts.files import write_text_whole


def error_record(log: Path) -> Path:
    """Where a job records the error that its user must mend."""
    return log.with_name(f".{log.name}.error")


def record_error(log: Path | None, why: str) -> None:
    """Record that trying again is of no use."""
    if log is not None:
        write_text_whole(error_record(log), why)


def forget_error(log: Path | None) -> None:
    """A new attempt begins: its user may have mended what failed."""
    if log is not None:
        error_record(log).unlink(missing_ok=True)


def count_alike(log: Path | None, run: str | None, failure: str) -> int:
    """Record how an attempt failed; how many attempts of one run in a row have failed like it by now."""
    if log is None:
        return 1
    before = _failure_before(log)
    alike = (before.get("run"), before.get("failure")) == (run, failure)
    count = before["count"] + 1 if alike else 1
    write_text_whole(
        _failure_record(log), json.dumps({"run": run, "failure": failure, "count": count}) + "\n"
    )
    return count


def last_failure(log: Path | None, run: str | None) -> str:
    """How the last attempt of a run failed that gave a reason; empty where none did."""
    before = _failure_before(log) if log else {}
    return str(before["failure"]) if before.get("run") == run and before else ""


def forget_failures(log: Path | None) -> None:
    """The job is done."""
    if log is not None:
        _failure_record(log).unlink(missing_ok=True)


def _failure_record(log: Path) -> Path:
    return log.with_name(f".{log.name}.failure.json")


def _failure_before(log: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(_failure_record(log).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return {}  # none, or a piece of one


def no_more_attempts(job: Any) -> None:
    """Let a Snakemake job, or a group of them, be given up when it fails."""
    job.attempt = max(job.attempt, job.restart_times + 1)


def give_up_what_a_user_must_mend(scheduler: Any) -> None:
    """Let a run's scheduler look at those records before it tries a failed job again.

    A group's other jobs get one more attempt: Snakemake runs the group again as a whole or not at all.
    """
    handle = scheduler._handle_error

    def handle_error(job: Any, *words: Any, **others: Any) -> None:
        members = list(job) if job.is_group() else [job]
        logs = [Path(path) for member in members for path in member.log]
        if any(error_record(log).exists() for log in logs) and (job.attempt > 1 or not job.is_group()):
            no_more_attempts(job)
        handle(job, *words, **others)

    scheduler._handle_error = handle_error


def time_record(log: Path) -> Path:
    """Where it is recorded that a job met its time limit."""
    return log.with_name(f"{log.name}.time.json")


def time_records(logs: Path) -> Iterator[Path]:
    """All such records below a folder of logs."""
    return logs.rglob("*.time.json")


def record_time_limit(log: Path, minutes: int) -> None:
    """Record how many minutes the next attempt is to ask for, since this one's were too few."""
    write_text_whole(time_record(log), json.dumps({"minutes": minutes}) + "\n")


def enough_time(log: Path, asked: int) -> int:
    """The minutes to ask for: as stated, or as many as an attempt that had too few recorded."""
    try:
        return max(asked, int(json.loads(time_record(log).read_text(encoding="utf-8"))["minutes"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return asked  # none, or a piece of one
