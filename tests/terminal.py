"""A command on a terminal of its own, as a person sees it: it can press Ctrl-C and close the window."""

import contextlib
import os
import pty
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class Terminal:
    """Runs a command as the leader of a pseudo-terminal's session."""

    def __init__(
        self, words: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ):
        self.said = ""
        self.code: int | None = None
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            # However the tests were started, a terminal's programs begin without ignored signals.
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(cwd or Path.cwd())
            os.execvpe(words[0], list(words), dict(environment or os.environ))

    def press_ctrl_c(self) -> None:
        """Type it, so that the kernel signals the terminal's foreground processes."""
        os.write(self._screen, b"\x03")

    def close(self) -> None:
        """Close the window, so that the kernel hangs up on them."""
        os.close(self._screen)
        self._screen = -1

    def until(self, fact: Callable[[], object], what: str, seconds: float = 120.0) -> None:
        """Wait for a fact; fail when it does not come true, or the command ends before."""
        end = time.monotonic() + seconds
        while not fact():
            assert not self.ended(), f"it ended before {what}:\n{self.said[-4000:]}"
            assert time.monotonic() < end, f"waited in vain for {what}:\n{self.said[-4000:]}"

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        end = time.monotonic() + seconds
        while not self.ended():
            assert time.monotonic() < end, f"it goes on after {seconds:.0f} s:\n{self.said[-4000:]}"
        assert self.code is not None
        return self.code

    def ended(self) -> bool:
        """Read what was printed since and say whether the command has ended."""
        if self.code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):  # EIO: everybody on it has gone
            while self._screen >= 0 and select.select([self._screen], [], [], 0.02)[0]:
                self.said += os.read(self._screen, 1 << 16).decode(errors="replace")
        time.sleep(0.02)
        return self.code is not None
