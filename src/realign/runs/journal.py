"""What happens in a run, written down while it happens: the events that Snakemake logs, a JSON line each.

The journal lies beside the run's record and is locked by the run's process for as long as it lives, so
a reader can tell a run that goes on from one that was killed.
"""

import fcntl
import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from realign.engine.logs import Mark, is_unfinished
from realign.runs.dag import PlannedJob
from realign.runs.queue import user_here

# What the SLURM executor says when it has submitted a job; it sends no event. A group's is by its last job.
SUBMITTED = re.compile(r"Job (\S+) has been submitted with SLURM jobid (\d+)")


def record_of(journal: Path) -> Path:
    """Where the record of the run with that journal lies."""
    return journal.with_name(journal.name.removesuffix(".journal.jsonl") + ".json")


def journal_of(record: Path) -> Path:
    """Where the journal of the run with that record lies."""
    return record.with_suffix(".journal.jsonl")


class RunJournal(logging.Handler):
    """Writes a run's events; it listens to Snakemake's logger."""

    def __init__(self, place: Path, jobs: dict[str, int], local: Iterable[str] = ()):
        super().__init__()
        place.parent.mkdir(parents=True, exist_ok=True)
        self._groups: dict[str, list[int]] = {}  # the members of a job's group, by the job's unique name
        self._stream = place.open("a", encoding="utf-8")
        fcntl.lockf(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed by the end of the process
        who = f"{user_here()} on {os.uname().nodename}, process {os.getpid()}"
        self.write("began", jobs=jobs, local=sorted(local), who=who)

    def write(self, event: str, **facts: Any) -> None:
        """Add an event."""
        line = json.dumps({"event": event, "time": time.time(), **facts}, default=str)
        self._stream.write(line + "\n")
        self._stream.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Note what Snakemake says of its jobs."""
        said = record.__dict__
        match str(said.get("event")):
            case "job_info":
                rule, wildcards = said["rule_name"], dict(said["wildcards"] or {})
                name = PlannedJob(rule, wildcards).name
                facts = {"name": name, "rule": rule, "wildcards": wildcards, "log": said["log"]}
                marks = [astuple(Mark.of(Path(log))) for log in said["log"]]
                self.write("started", job=said["jobid"], marks=marks, **facts)
            case "job_finished":
                self.write("finished", job=said["job_id"])
            case "job_error":
                self.write("failed", job=said["jobid"], message=said["rule_msg"], log=said["log"])
            case "group_error":
                self.write("group_failed", jobs=[error["jobid"] for error in said["job_error_info"]])
            case "group_info":
                members = [job.jobid for job in said["jobs"]]
                self._groups |= {job.uuid(): members for job in said["jobs"]}
            case _ if found := SUBMITTED.match(record.getMessage()):
                job, number = found.groups()
                members = self._groups.get(job) or ([int(job)] if job.isdigit() else [])
                self.write("submitted", jobs=members, number=number)


def keep_journal(record: Path, dag: Any) -> None:
    """Begin the journal of a run that starts."""
    from snakemake.logging import logger

    planned = [job for job in dag.needrun_jobs() if not job.rule.norun]
    jobs = Counter(job.rule.name for job in planned)
    local = {job.rule.name for job in planned if job.is_local}
    logger.addHandler(RunJournal(journal_of(record), dict(jobs), local))


def end_journal(success: bool) -> None:
    """Note how the run ended; a run that was killed leaves this out."""
    from snakemake.logging import logger

    for handler in logger.handlers:
        if isinstance(handler, RunJournal):
            handler.write("ended", success=success)


@dataclass
class JobStatus:
    """How a job stands, by the journal."""

    name: str
    rule: str
    wildcards: dict[str, str]
    logs: list[str]
    since: float
    marks: list[Mark] = field(default_factory=list)  # how each log stood before this attempt
    state: str = "running"  # or done, failed, waiting; queued, ended, lost where a cluster was asked
    message: str = ""
    attempts: int = 1
    number: str = ""  # in a cluster's queue
    waits_for: str = ""  # in the queue, as the cluster says
    group: tuple[int, ...] = ()  # the jobs that failed together with it, itself included

    def marked_logs(self) -> list[tuple[Path, Mark]]:
        """Its logs, each with how it stood before this attempt."""
        new = [Mark()] * (len(self.logs) - len(self.marks))  # a cluster's own log of a job that failed
        return [(Path(log), mark) for log, mark in zip(self.logs, [*self.marks, *new], strict=True)]

    def said(self, most: int) -> list[str]:
        """What this attempt wrote to each of its logs, `most` of the last bytes."""
        return [mark.text_since(log, most) for log, mark in self.marked_logs()]

    @property
    def died(self) -> bool:
        """Whether this attempt began and did not end well, by its log."""
        return any(mark.died(log) for log, mark in self.marked_logs())


@dataclass
class RunStatus:
    """How a run stands, by its journal."""

    began: float = 0.0
    last: float = 0.0
    planned: dict[str, int] = field(default_factory=dict)  # jobs by rule
    jobs: dict[int, JobStatus] = field(default_factory=dict)
    success: bool | None = None  # nothing while it has not ended, or when it was killed
    alive: bool = False
    local: frozenset[str] = frozenset()  # rules whose jobs run beside Snakemake, also on a cluster
    who: str = ""  # whose run it is, and where

    @property
    def is_done(self) -> bool:
        """Whether all jobs that were begun have ended well."""
        return bool(self.jobs) and all(job.state == "done" for job in self.jobs.values())

    @property
    def is_complete(self) -> bool:
        """Whether all jobs that were planned have ended well."""
        begun = sum(job.rule in self.planned for job in self.jobs.values())
        return self.is_done and begun == sum(self.planned.values())


def read_journal(place: Path) -> RunStatus:
    """How a run stands by what its journal holds so far."""
    run = RunStatus()
    for line in _lines(place):
        run.last = line["time"]
        match line["event"]:
            case "began":
                run.began, run.planned = line["time"], line["jobs"]
                run.local, run.who = frozenset(line.get("local", ())), line.get("who", "")
            case "ended":
                run.success = line["success"]
            case "started":
                earlier = run.jobs.get(line["job"])
                status = JobStatus(line["name"], line["rule"], line["wildcards"], line["log"], line["time"])
                status.attempts = earlier.attempts + 1 if earlier else 1
                status.marks = [Mark(*mark) for mark in line.get("marks", ())]
                run.jobs[line["job"]] = status
            case "submitted":
                for number in line["jobs"]:
                    if number in run.jobs:
                        run.jobs[number].number = line["number"]
            case "group_failed":
                for number in line["jobs"]:
                    if number in run.jobs:
                        run.jobs[number].group = tuple(line["jobs"])
            case "finished" if line["job"] in run.jobs:
                run.jobs[line["job"]].state = "done"
            case "failed" if line["job"] in run.jobs:
                status = run.jobs[line["job"]]
                status.state, status.message, status.logs = "failed", line["message"] or "", line["log"]
    _set_free(run)
    run.alive = run.success is None and _is_locked(place)
    if not run.alive:
        _look_after(run)
    return run


def _set_free(run: RunStatus) -> None:
    """Of a group in which one failed, Snakemake calls all failed: those that did not wait for another try."""
    for job in run.jobs.values():
        others = [run.jobs[number] for number in job.group if number in run.jobs]
        if job.state == "failed" and not job.died and any(other.died for other in others):
            job.state = "waiting"


def _look_after(run: RunStatus) -> None:
    """Jobs on a cluster outlive their Snakemake: by their logs, some have ended well since."""
    for job in run.jobs.values():
        if job.state == "running" and job.logs and all(m.has_spoken(log) for log, m in job.marked_logs()):
            job.state = "running" if any(is_unfinished(log) for log, _ in job.marked_logs()) else "done"


def _lines(place: Path) -> Iterator[dict[str, Any]]:
    with place.open(encoding="utf-8") as stream:
        for line in stream:
            if line.endswith("\n"):  # else it is being written, or a kill cut it off
                yield json.loads(line)


def _is_locked(place: Path) -> bool:
    with place.open("a") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
