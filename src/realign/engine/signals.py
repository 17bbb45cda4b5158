"""Leaving in good order: a job that is told to go finishes its step, saves, and says so.

SIGTERM is what a scheduler sends before it kills; SIGUSR1 is what it can be asked to send earlier.
The handlers only take a note; the loop asks `leaving.asked` between two steps, saves its work and
raises `Interrupted`, whose exit code differs from a failure's.
"""

import logging
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Leaving:
    """Catches the signals that ask a job to leave, for as long as the block lasts.

    A notice is a file that asks the same: it reaches processes on other machines, where a signal
    to the launcher does not.
    """

    def __init__(self, notice: Path | None = None, signals: Sequence[signal.Signals] = SIGNALS):
        self.notice = notice
        self.signals = tuple(signals)
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether this process has been asked to leave."""
        if self.received is None and self.notice is not None and self.notice.exists():
            self.received = "a notice"
        return self.received is not None

    def _take_note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name

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
