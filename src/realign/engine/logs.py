"""Logging as every command does it: lines with a time on stderr, and one file a job."""

import contextlib
import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

FORMAT = "%(asctime)s %(levelname).1s %(name)s: %(message)s"
WARNED = re.compile(r"\d\d:\d\d:\d\d W realign\.[\w.]+: (.*)")  # a line of that form that warns, and of what
# Set by a run that shows its own output: what a job prints then goes to the job's log alone.
LOGS_ONLY = "REALIGN_LOGS_ONLY"


def start_logging(file: Path | None = None, quiet: bool = False) -> None:
    """Send the package's log to stderr and, if asked, whole to a file."""
    handlers: list[logging.Handler] = []
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_File(file, mode="a", encoding="utf-8"))
    # A worker that srun started prints elsewhere than its job: whatever srun hands back would be there twice.
    if not (prints_into(file) or (file is not None and LOGS_ONLY in os.environ)):
        handlers.append(logging.StreamHandler(sys.stderr))
    logging.basicConfig(
        format=FORMAT, datefmt="%H:%M:%S", level=logging.WARNING, handlers=handlers, force=True
    )
    logging.getLogger("realign").setLevel(logging.WARNING if quiet else logging.INFO)


def print_into(file: Path) -> None:
    """Send all that this process and those that it starts print to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    end = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(end, 1)
    os.dup2(end, 2)
    os.close(end)


def prints_into(file: Path | None) -> bool:
    """Whether what this process prints on stderr lands in that file."""
    return file is not None and file.exists() and os.path.samestat(file.stat(), os.fstat(2))


class _File(logging.FileHandler):
    """A log that keeps quiet when its disk is full: the job says so, once."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_file() -> Path | None:
    """The file that this process logs to, for processes that it starts to log to as well."""
    files = [h.baseFilename for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    return Path(files[0]) if files else None


@dataclass(frozen=True)
class Mark:
    """How a job's log stood before an attempt.

    It shows what the attempt wrote without comparing clocks, which differ between a cluster's machines.
    """

    changed: float = 0.0  # when the log was last written to; 0 where there was none
    kept: int = -1  # bytes that unfinished attempts had left; -1 where there were none

    @classmethod
    def of(cls, log: Path) -> "Mark":
        """The mark of a log as it stands now."""
        kept = _unfinished(log)
        return cls(log.stat().st_mtime if log.exists() else 0.0, kept.stat().st_size if kept.exists() else -1)

    def has_spoken(self, log: Path) -> bool:
        """Whether the log was written to since."""
        return log.exists() and log.stat().st_mtime != self.changed

    def died(self, log: Path) -> bool:
        """Whether an attempt has begun since and not ended well."""
        kept = _unfinished(log)
        return kept.exists() and kept.stat().st_size > self.kept

    def text_since(self, log: Path, most: int) -> str:
        """What was written since, `most` of its last bytes; empty where nothing was."""
        kept = _unfinished(log)
        if kept.exists():
            source, start = kept, max(0, self.kept)
        elif self.has_spoken(log):
            source, start = log, 0  # a job that keeps no log over its attempts
        else:
            return ""
        with source.open("rb") as stream:
            stream.seek(max(start, source.stat().st_size - most))
            return stream.read().decode(errors="replace")


def is_unfinished(log: Path) -> bool:
    """Whether the job of that log has begun and not ended well."""
    return _unfinished(log).exists()


def _unfinished(log: Path) -> Path:
    return log.with_name(f".{log.name}.unfinished")


class LogFile:
    """One log over all attempts of a job, though Snakemake removes a job's log before each.

    Until the job is done, what was logged is kept under a second name beside the log.
    """

    def __init__(self, log: Path | None):
        self._log = log
        self._kept = _unfinished(log) if log else None

    def go_on(self) -> None:
        """Let the log begin with what unfinished attempts said."""
        if self._log is None or self._kept is None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # a file system without links: each attempt has its own log
            if self._kept.exists():
                self._log.unlink(missing_ok=True)
                os.link(self._kept, self._log)
            else:
                self._log.touch()
                os.link(self._log, self._kept)

    def end(self) -> None:
        """The job is done: its next run begins a new log."""
        if self._kept is not None:
            self._kept.unlink(missing_ok=True)
