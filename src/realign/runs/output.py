"""A run's output for people: its plan, a line for each job, warnings and errors in full.

Snakemake loads this as its logger plugin `realign`; its own text goes to its log file, whose path the run
ends with. What jobs print goes to their own logs, of which a failed job's end is shown.
"""

import contextlib
import os
import re
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from logging import DEBUG, INFO, WARNING, LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase

from realign.artifacts.errors import KEPT
from realign.engine.logs import LOGS_ONLY, WARNED, Mark
from realign.runs.causes import explain
from realign.runs.cost import Cost, costs_of
from realign.runs.dag import PlannedJob
from realign.runs.journal import JobStatus
from realign.runs.plan import FOLLOW, own_cause, plan_of, render, span
from realign.runs.status import TAIL_BYTES, reason, remedy_of
from realign.study.study import Study

# What Snakemake and its SLURM executor say without need for a person; their log file has it.
CHATTER = re.compile(
    r"Assuming unrestricted|Building DAG|Using shell|Group jobs: inactive|(Singularity|Conda) .*: ignored"
    r"|Select jobs|Shutting down|Elapsed time|Will exit after|Processed \d+ potential|Job rate limit"
    r"|Removing (output files of failed|temporary output)|Touching output|Write-protecting|Cleaning up SLURM"
    r"|SLURM run ID|Falling back to 'sacct'|'sacct' unavailable|Submitted array"
    r"|Storing output|DAG of jobs will be updated|Updating (checkpoint|jobs with queue)"
)
# What the SLURM executor warns of where a user names no account, which most sites do not ask for.
GUESSES = re.compile(
    r"No SLURM account given|Guessed SLURM account|No account was given|Unable to guess SLURM"
)
SILENT = {"group_info", "job_started", "progress", "resources_info", "rulegraph", "workflow_started"}
# Said by Snakemake of failures that are shown with their reasons; of a shell's, without any.
REPEATS = re.compile(r"Exiting because a job execution failed|At least one job did not complete success")
OF_A_SHELL = re.compile(r"RuleException:\nCalledProcessError ")
SUBMITTED = re.compile(r"(Group job|Job) \S+ has been submitted")
NOT_MADE = re.compile(r"Job (\d+) +completed successfully, but some output files are missing")
AGAIN = re.compile(r"Trying to restart job (\S+)\.")  # its number; of a group no number
FULL_TEXT = "Complete log(s): "

TAIL = 20  # lines of a failed job's log
SAMPLE = 3  # running jobs that are named
SIGN_OF_LIFE = 300.0  # seconds without a line after which a run that is no terminal's says how it stands
SETTLED = 2.0  # seconds without another submission after which a burst of them is told
GUESSED = 0.1  # of the work that is left: where more of it is a guess, the time left is not told
NEARLY = 5.0  # seconds, of which nobody needs to hear that they are left
RED, YELLOW, DIM = 31, 33, 2


@dataclass
class Job(JobStatus):
    """A job that runs."""

    is_target: bool = False  # it makes nothing

    def __str__(self) -> str:
        return f"{self.rule:<16} {', '.join(f'{k}={v}' for k, v in self.wildcards.items())}".rstrip()


def mark_logs(record: LogRecord) -> bool:
    """Attach to a job's start how its logs stand; `RunOutput` sees records later, in another thread."""
    if str(record.__dict__.get("event")) == "job_info":
        record.__dict__["marks"] = [Mark.of(Path(log)) for log in record.__dict__["log"]]
    return True


class Pace:
    """What the jobs of a run take, as planned and then as seen, and so how long the rest will take."""

    def __init__(self, jobs: Sequence[PlannedJob] = (), costs: Mapping[str, Cost] | None = None):
        self.began = time.time()
        self._planned = {job.name: (job.rule, (costs or {})[job.name]) for job in jobs}
        self._seen: dict[str, list[float]] = {}  # seconds of the jobs that ended, by rule
        self._ended: set[str] = set()

    def note(self, job: Job, seconds: float) -> None:
        """A job ended well."""
        self._seen.setdefault(job.rule, []).append(seconds)
        self._ended.add(job.name)

    def left(self, running: Sequence[Job]) -> float | None:
        """Seconds until the end with as many jobs at a time as up to now; nothing while that is a guess."""
        now = time.time()
        begun = {job.name: now - job.since for job in running}
        work = sum(map(sum, self._seen.values())) + sum(begun.values())
        usual = {rule: statistics.fmean(seconds) for rule, seconds in self._seen.items()}
        rest = guessed = 0.0
        for name, (rule, cost) in self._planned.items():
            if name not in self._ended:
                seconds = max(0.0, usual.get(rule, 3600 * cost.hours) - begun.get(name, 0.0))
                rest += seconds
                guessed += seconds if cost.source == "guess" and rule not in usual else 0.0
        at_a_time = max(1.0, work / (now - self.began))
        return rest / at_a_time if guessed <= GUESSED * rest else None


class RunOutput(LogHandlerBase):
    """Prints a line for each job that ends, and what went wrong in full."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False  # Snakemake's own, so that `--quiet` means what it always does
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        settings = self.common_settings
        self._stream = sys.stdout if settings.dryrun else sys.stderr
        screen = self._stream.isatty() and os.environ.get("TERM") != "dumb" and not settings.dryrun
        quiet = {str(word) for word in settings.quiet or ()}
        self._quiet = bool({"all", "progress", "rules"} & quiet)
        self._live = screen and not self._quiet  # whether the last line shows what runs
        self._color = screen and not settings.nocolor
        self._guarded = self.lock or threading.RLock()  # logging holds it around `emit`
        self._jobs: dict[int, Job] = {}
        self._tries: dict[int, int] = {}  # how often jobs that failed were tried
        self._unharmed: set[int] = set()  # of a group in which another job failed
        self._burst: list[float] = []  # when jobs were submitted of which no line tells yet
        self._submits = False  # whether jobs go to a queue first, so that nobody knows which of them run
        self._whys: dict[str, str] = {}
        self._failed: dict[int, str] = {}  # the names of jobs that are not tried again
        self._warned: set[str] = set()
        self._pace = Pace()
        self._done = self._total = 0
        self._last_line = time.time()
        self._drawn = False  # whether a terminal's last line shows what runs
        self._over = threading.Event()
        self._clock: threading.Thread | None = None
        from snakemake.logging import logger

        logger.addFilter(mark_logs)

    def expect(self, jobs: Sequence[PlannedJob], study: Study, submits: bool = False) -> None:
        """Show the plan of the run that begins, by which its pace is judged."""
        costs = costs_of(jobs, study)
        with self._guarded:
            self._total, self._submits = len(jobs), submits
            self._pace = Pace(jobs, costs)
            whys = {job.name: why for job in jobs if (why := own_cause(explain(job))) != FOLLOW}
            self._whys = (
                whys if len(set(whys.values())) > 1 else {}
            )  # the plan says it where it is one for all
            if not self._quiet:
                self._say(render(plan_of(jobs, costs, study.resources)) + "\n")

    def emit(self, record: LogRecord) -> None:
        """Print what a person needs of a record."""
        try:
            self._print(record)
        except Exception:  # noqa: BLE001 (output must not end a run; logging reports it)
            self.handleError(record)

    def _print(self, record: LogRecord) -> None:
        said, now = record.__dict__, record.created
        match str(said.get("event")):
            case "job_info" if self.common_settings.dryrun:
                if not (job := _job(said, now)).is_target:
                    self._say(f"{job} · {str(said['reason']).partition(':')[0]}")
            case "job_info":
                self._start(said["jobid"], _job(said, now))
            case "job_finished":
                self._finish(said["job_id"], now)
            case "job_error":
                self._fail(said, now)
            case "group_error":
                self._fail_group(said)
            case "run_info":
                if self.common_settings.dryrun and not self._total:  # a dry-run says it twice
                    self._say(record.getMessage())
                self._total = self._total or said["stats"].get("total", 0) - said["stats"].get("all", 0)
            case event if event not in SILENT and record.msg is not None:
                self._pass_on(record)

    def _start(self, number: int, job: Job) -> None:
        job.attempts = self._tries.get(number, 0) + 1
        self._jobs[number] = job
        self._failed.pop(number, None)
        if self._clock is None:
            self._clock = threading.Thread(target=self._tick, name="output", daemon=True)
            self._clock.start()
        self._show()

    def _finish(self, number: int, now: float) -> None:
        job = self._jobs.pop(number, None)
        if job is None or job.is_target:
            return
        self._done += 1
        self._pace.note(job, now - job.since)
        count = f"{self._done:>{len(str(self._total))}}/{self._total}"
        parts = [str(job), f"attempt {job.attempts}" if job.attempts > 1 else ""]
        parts += [self._whys.get(job.name, ""), self._left()]
        self._say(f"{_clock(now)} {count} {_span(now - job.since):>8}  {' · '.join(filter(None, parts))}")
        for warning in _warnings(job):
            if warning not in self._warned:
                self._warned.add(warning)
                self._say(f"  warning: {warning}", YELLOW)

    def _fail(self, said: Mapping[str, Any], now: float) -> None:
        number = said["jobid"]
        job = self._jobs.pop(number, None) or _job({"wildcards": {}} | dict(said), now)
        job.logs = list(said["log"])
        if number in self._unharmed:
            self._unharmed.remove(number)
            return
        job.message = said["rule_msg"] or ""
        why = reason(job)
        self._tries[number] = job.attempts
        if not (stopped := KEPT in why):
            self._failed[number] = job.name
        end = "Stopped" if stopped else "FAILED"
        lines = [f"{_clock(now)} {end} {job.name} ({_span(now - job.since)})"]
        lines += [f"  why: {why}"]
        if remedy := remedy_of(job, why):
            lines.append(f"  change: {remedy}")
        for log, text in zip(job.logs, job.said(TAIL_BYTES), strict=True):
            lines.append(f"  log: {log}")
            # of a line that a progress bar drew over and over, the last
            ends = [line.rpartition("\r")[2] for line in text.split("\n") if line]
            lines += [f"    {line}" for line in ([] if stopped else ends[-TAIL:])]
        self._say("\n".join(lines), YELLOW if stopped else RED)

    def _fail_group(self, said: Mapping[str, Any]) -> None:
        """Snakemake calls all jobs of a group failed; those that began and did not end well are."""
        members = {told["jobid"]: self._jobs.get(told["jobid"]) for told in said["job_error_info"]}
        died = {number for number, job in members.items() if job and job.died}
        if died:
            self._unharmed |= members.keys() - died
        logs = ", ".join(said["aux_logs"])
        self._say(f"These jobs shared one SLURM job{f', whose log is {logs}' if logs else ''}", RED)

    def _pass_on(self, record: LogRecord) -> None:
        """A message that is of no job: shown in full unless nobody needs it."""
        text = record.getMessage()
        if again := AGAIN.match(text):
            self._try_again(again[1])
        elif SUBMITTED.match(text):
            self._burst.append(record.created)
        elif text.startswith(FULL_TEXT):
            self._end(text.removeprefix(FULL_TEXT))
        elif (record.levelno == INFO and CHATTER.match(text)) or GUESSES.match(text):
            pass
        elif (lacking := NOT_MADE.search(text)) and (job := self._jobs.pop(int(lacking[1]), None)):
            self._failed[int(lacking[1])], self._tries[int(lacking[1])] = job.name, job.attempts
            self._say(f"{_clock(record.created)} FAILED {job.name}: it ended well without its outputs", RED)
            self._say(text, RED)
        elif text and not (self._failed and REPEATS.search(text)) and not OF_A_SHELL.match(text):
            level = record.levelno
            self._say(
                text, RED if level > WARNING else YELLOW if level == WARNING else DIM * (level <= DEBUG)
            )

    def _try_again(self, what: str) -> None:
        if not what.isdigit():
            self._say("A group of jobs is tried again")
            return
        number = int(what)
        name = self._failed.pop(number, "It")
        self._say(f"{name} is tried again, attempt {self._tries.setdefault(number, 1) + 1}")

    def _end(self, log: str) -> None:
        """How the run ended, and where Snakemake's own text is."""
        parts = [f"{self._done} of {self._total} jobs done in {_span(time.time() - self._pace.began)}"]
        if self._failed:
            parts.append(f"{len(self._failed)} failed: {', '.join(self._failed.values())}")
        if rest := self._total - self._done - len(self._failed):
            parts.append(f"{rest} not done; run the same command again to go on")
        self._jobs.clear()
        if not self._quiet:
            self._say(f"{'; '.join(parts)}\nSnakemake's own log: {log}")

    def _left(self) -> str:
        seconds = self._pace.left(list(self._jobs.values()))
        return f"about {_span(seconds)} left" if seconds and seconds > NEARLY else ""

    def _state(self) -> str:
        """What runs now, in one line."""
        jobs = sorted((j for j in self._jobs.values() if not j.is_target), key=lambda job: job.since)
        now = time.time()
        names = [f"{job.name} {_span(now - job.since)}" for job in jobs[:SAMPLE]]
        more = f" and {len(jobs) - SAMPLE} more" if len(jobs) > SAMPLE else ""
        what = "submitted" if self._submits else "running"
        parts = [f"{self._done}/{self._total} done", self._left(), f"{what}: {', '.join(names)}{more}"]
        return " · ".join(filter(None, parts)) if jobs else ""

    def _tick(self) -> None:
        """Keep the last line of a terminal up to date; elsewhere give a sign of life now and then."""
        while not self._over.wait(1.0):
            with self._guarded:
                self._tell_submitted()
                if self._live:
                    self._show()
                elif (
                    not self._quiet
                    and time.time() - self._last_line > SIGN_OF_LIFE
                    and (now := self._state())
                ):
                    self._say(f"{_clock(time.time())} {now}")

    def _tell_submitted(self) -> None:
        """A line once a burst of submissions is over; single jobs that follow others need none."""
        if self._burst and time.time() - self._burst[-1] > SETTLED:
            count, self._burst = len(self._burst), []
            if (count > 1 or not self._done) and not self._quiet:
                jobs = "1 job" if count == 1 else f"{count} jobs"
                self._say(f"{_clock(time.time())} {jobs} submitted to SLURM")

    def _show(self) -> None:
        """Draw what runs anew on a terminal's last line."""
        if self._live:
            line = self._state()[: shutil.get_terminal_size().columns - 1]
            self._write(self._cleared() + self._painted(line, DIM))
            self._drawn = bool(line)

    def _write(self, text: str) -> None:
        # The terminal may be gone, or the reader of a pipe; the run goes on.
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()

    def _cleared(self) -> str:
        return "\r\033[K" if self._drawn else ""

    def _say(self, text: str, color: int = 0) -> None:
        self._write(f"{self._cleared()}{self._painted(text, color)}\n")
        self._drawn = False
        self._last_line = time.time()
        self._show()

    def _painted(self, text: str, color: int) -> str:
        return f"\033[{color}m{text}\033[0m" if self._color and color and text else text

    def close(self) -> None:
        """Leave a clean line to whoever prints next."""
        self._over.set()
        with self._guarded:
            self._jobs.clear()
            self._show()
            self._live = False
        super().close()


def show_plan(workflow: Any, jobs: Sequence[PlannedJob], study: Study) -> None:
    """Tell this run's output, where it is ours, what to expect; its jobs print into their logs alone."""
    for handler in workflow.logger_manager.get_log_handlers():
        if isinstance(handler, RunOutput):
            os.environ[LOGS_ONLY] = "1"
            handler.expect(jobs, study, submits=not workflow.local_exec)


def _job(said: Mapping[str, Any], now: float) -> Job:
    rule, wildcards = said["rule_name"], dict(said["wildcards"] or {})
    is_target = not said["shellcmd"] and not said["output"]
    name = PlannedJob(rule, wildcards).name
    marks = list(said.get("marks", ()))
    return Job(name, rule, wildcards, list(said["log"]), now, marks, is_target=is_target)


def _warnings(job: Job) -> Iterator[str]:
    """What our own code warned of in the job's log."""
    for log in map(Path, job.logs):
        if log.is_file():
            with log.open(encoding="utf-8", errors="replace") as lines:
                yield from (found[1] for line in lines if (found := WARNED.match(line)))


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))


def _span(seconds: float) -> str:
    return span(seconds / 3600)
