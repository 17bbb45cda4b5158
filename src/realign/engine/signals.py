"""Leaving in good order: a job that is asked to go finishes its step, saves, and says so.

Ctrl-C sends SIGINT, a terminal that closes SIGHUP, a scheduler SIGTERM before it kills, and SIGUSR1
earlier where it is asked to. The handlers only take a note; the loop asks `leaving.asked` between two
steps, saves its work and raises `Interrupted`, whose exit code differs from a failure's. A second
Ctrl-C stops at once, as a kill would: what was saved before stays.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)
WARNING = (
    "REALIGN_WARNING_SECONDS"  # how long before its time limit the cluster warns this job; 0: it does not
)
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


def heeded(signals: Sequence[signal.Signals] = SIGNALS) -> list[signal.Signals]:
    """Those signals that this process was not started to ignore, as `nohup` and a shell's `&` ask for.

    SIGUSR1 always counts: a job ignores it only for as long as it has nothing to save.
    """
    ignored = [n for n in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(n) is signal.SIG_IGN]
    return [number for number in signals if number not in ignored]


@contextlib.contextmanager
def stopping_on_interrupt() -> Iterator[None]:
    """Let the first Ctrl-C raise KeyboardInterrupt, and the second end the process there and then."""

    def first(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.SIGINT not in heeded():
        yield
        return
    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Leaving:
    """Catches the signals that ask a job to leave, for as long as the block lasts.

    A notice is a file that asks the same: it reaches processes on other machines, where a signal
    to the launcher does not. Who waits for a notice leaves Ctrl-C to the launcher that writes it.
    `second` handles a second Ctrl-C; by default the system ends the process.
    """

    def __init__(self, notice: Path | None = None, second: Any = signal.SIG_DFL):
        self.notice = notice
        self.signals = [n for n in heeded() if n != signal.SIGINT or notice is None]
        self.received: str | None = None
        self._second = second
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether this process has been asked to leave."""
        if self.received is None and self.notice is not None and self.notice.exists():
            self.received = "a notice"
        return self.received is not None

    def _take_note(self, number: int, _: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._second)
            with contextlib.suppress(OSError):  # written directly: the logger may be at work right now
                os.write(2, b"\nrealign: saving after this step; press Ctrl-C again to stop at once\n")

    def __enter__(self) -> "Leaving":
        if threading.current_thread() is not threading.main_thread():
            log.debug("signals reach the main thread only; none are caught here")
            return self
        for number in self.signals:
            self._before[number] = signal.signal(number, self._take_note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
