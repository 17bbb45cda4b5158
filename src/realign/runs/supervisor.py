"""A small parent for a workflow's job, which lives to tell why the job died.

A process that is killed says nothing: it was over its memory, or a time limit, a preemption or a
person took it away. So a job of a run works in a child process; its parent passes signals on, waits,
and says what happened, in which job, and which setting to change. A lack of memory is recorded
beside the job's log, and the job gets more when it is tried again (see `Flow.limits`).
"""

import contextlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from realign.artifacts.command import Interrupted
from realign.artifacts.errors import KEPT
from realign.artifacts.files import write_text_whole
from realign.engine.launch import leave_with_parent
from realign.engine.signals import SIGNALS, heeded

log = logging.getLogger(__name__)
CGROUPS = Path("/sys/fs/cgroup")
STOPS: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGHUP: "a terminal that closed"}


def supervise(rule: str, job_log: Path | None) -> int | None:
    """Go on as a child of this process: None there, and in the parent the child's exit code.

    The child does the work and ends in `end_child`. The parent explains a death that the child could not.
    """
    memory = MemoryGroup.of_this_process()
    killed_before = memory.kills()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until both know what to do at one
    child = os.fork()
    if child == 0:
        os.setsid()  # a terminal's Ctrl-C reaches the parent alone, which passes it on once
        leave_with_parent()
        # A warning before a time limit is for work that can save and leave; other work uses the time left.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return None
    received = _pass_signals_to(child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code in (0, Interrupted.exit_code):
        return code
    if out_of_memory := memory.kills() > killed_before:
        _record(job_log, memory.limit_mb())
    if out_of_memory or code < 0:
        reason = next((n for n in received if n != signal.SIGUSR1), -code)
        log.error("%s", _cause_of_death(rule, job_log, reason, out_of_memory, memory.limit_mb()))
    return 128 - code if code < 0 else code


def end_child(code: int) -> NoReturn:
    """End a child of `supervise` at once: no library's exit handler may change the code of finished work."""
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    os._exit(code)


def _pass_signals_to(child: int) -> list[int]:
    """Pass on what asks this process to leave; what arrived, as it arrives."""
    received: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in heeded():
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return received


def _cause_of_death(
    rule: str, job_log: Path | None, number: int, out_of_memory: bool, limit: int | None
) -> str:
    here = f"{rule}, job {_job_name(job_log)}"
    if out_of_memory:
        of = f" of {limit} MB" if limit else ""
        return (
            f"{here}: killed for using more memory than its limit{of}; the next attempt asks for more. "
            f"Set resources.rules.{rule}.memory_gb in the study (or backbones.NAME.{rule}.memory_gb there)"
        )
    if number in STOPS:
        return f"{here}: stopped by {STOPS[number]}; {KEPT}. Run it again to go on"
    name = signal.Signals(number).name
    if number == signal.SIGTERM and "SLURM_JOB_ID" not in os.environ:
        return f"{here}: stopped by {name}; {KEPT}. Run it again to go on"
    if number in SIGNALS:
        return (
            f"{here}: ended by {name}: a time limit, a preemption or scancel; {KEPT}. "
            f"If it was the time limit, set resources.rules.{rule}.hours in the study"
        )
    return f"{here}: ended by {name}; if the machine ran out of memory, set resources.rules.{rule}.memory_gb"


def _job_name(job_log: Path | None) -> str:
    """A job as its log's place names it: below the rule's folder, its wildcards."""
    return f"{job_log.stem} (log: {job_log})" if job_log else "without a log"


def memory_record(job_log: Path) -> Path:
    """Where a job's lack of memory is recorded."""
    return job_log.with_name(f"{job_log.name}.memory.json")


def memory_records(logs: Path) -> Iterator[Path]:
    """All such records below a folder of logs."""
    return logs.rglob("*.memory.json")


def _record(job_log: Path | None, limit_mb: int | None) -> None:
    if job_log is not None and limit_mb is not None:
        write_text_whole(memory_record(job_log), json.dumps({"too_little_mb": limit_mb}) + "\n")


def enough_memory(job_log: Path, asked_mb: int) -> int:
    """The memory to ask for: as stated, or half as much again as what was recorded as too little."""
    try:
        record = json.loads(memory_record(job_log).read_text(encoding="utf-8"))
        return max(asked_mb, round(1.5 * record["too_little_mb"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # None, or a piece of one, as a cut-off write once left it: a job that lacks memory records it anew.
        return asked_mb


class MemoryGroup:
    """The control group that limits this process's memory: version 2, version 1, or none."""

    def __init__(self, folders: list[Path]):
        self.folders = folders  # from the process's own group up to the root

    @classmethod
    def of_this_process(cls, table: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> "MemoryGroup":
        """Find it, in the order own group to root."""
        try:
            lines = [line.split(":", 2) for line in table.read_text(encoding="utf-8").splitlines()]
        except OSError:
            return cls([])  # no Linux
        for _, controllers, path in sorted(lines, key=lambda entry: entry[1] != "memory"):
            if controllers not in ("", "memory"):
                continue
            top = root / controllers
            own = top / path.lstrip("/")
            folders = [f for f in (own, *own.parents) if f.is_relative_to(top) and f.is_dir()]
            if any((f / name).is_file() for f in folders for name in ("memory.events", "memory.oom_control")):
                return cls(folders)
        return cls([])

    def kills(self) -> int:
        """How many processes of the group were killed for lack of memory; of its parents', where counted."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                if (folder / name).is_file():
                    found = re.search(r"^oom_kill (\d+)$", (folder / name).read_text(), re.MULTILINE)
                    return int(found[1]) if found else 0
        return 0

    def limit_mb(self) -> int | None:
        """The tightest limit on the group."""
        limits = []
        for folder in self.folders:
            for name in ("memory.max", "memory.limit_in_bytes"):
                if (folder / name).is_file():
                    text = (folder / name).read_text().strip()
                    if text.isdigit() and int(text) < 1 << 60:  # version 1 says "no limit" by a huge number
                        limits.append(int(text) >> 20)
        return min(limits, default=None)
