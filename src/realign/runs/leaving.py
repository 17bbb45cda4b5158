"""Who answers when a job is asked to leave: the command that does the work, and nobody around it.

Some schedulers signal every process of a job, and a terminal every process of a run: the Snakemake, the
shell of a rule, and the command. If Snakemake or the shell died of it, the command would be killed while
it saves, or go on without them. Others (SLURM, where it tracks processes by cgroup; a person with
`kill`) signal only the first process, which is that Snakemake: it hands the word on to the commands. A
command that hears it twice takes the same note twice.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

from realign.engine.signals import SIGNALS, heeded

# A trap, unlike an ignored signal, is not handed down to the command; the shell waits for it to end.
SHELL_PREFIX = "set -euo pipefail; trap : TERM USR1 HUP INT; "


def live_through_warnings() -> None:
    """Let this Snakemake live through SIGUSR1 (at SIGTERM it waits for its jobs by itself)."""
    signal.signal(signal.SIGUSR1, lambda *_: None)


def hand_signals_on(stop: Callable[[], None] | None = None) -> None:
    """Hand this Snakemake's signals on to the commands that it runs.

    With `stop`, which keeps Snakemake from starting more jobs, this is a run on this machine: Ctrl-C and
    a closed terminal then end it in order too. Handlers run between any two lines of Snakemake, perhaps
    while it holds a lock that `stop` needs, and Snakemake replaces the one for SIGTERM. So what arrives
    is read in a thread, from where Python notes every signal that has a handler, whosever it is.
    """
    if stop:
        for number in heeded():
            signal.signal(number, lambda *_: None)
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    threading.Thread(target=_hand_on, args=(reads, stop), name="signals", daemon=True).start()


def _hand_on(reads: int, stop: Callable[[], None] | None) -> None:
    import psutil  # noqa: F401 (now, so that the first signal need not wait for it)

    stopped = False
    while numbers := os.read(reads, 64):
        for number in numbers:
            if number not in SIGNALS:
                continue
            again = number == signal.SIGINT and stopped
            if stop and not stopped and number != signal.SIGUSR1:
                stopped = True
                over_what_runs = "\r\033[K" if sys.stderr.isatty() else ""  # a terminal's last line shows it
                with contextlib.suppress(OSError):  # the terminal may be gone
                    print(
                        f"{over_what_runs}Stopping: running jobs save their work. "
                        "Press Ctrl-C again to stop at once. Run the same command again to go on.",
                        file=sys.stderr,
                        flush=True,
                    )
                stop()
            # On a terminal commands get their SIGINT directly, and two of them would end one at once.
            tell_commands(signal.SIGINT if again else _gentle(number))


def _gentle(number: int) -> signal.Signals:
    return signal.SIGUSR1 if number == signal.SIGUSR1 else signal.SIGTERM


def tell_commands(number: signal.Signals) -> None:
    """Signal the commands that this process's shells run."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for shell in psutil.Process().children():
            for command in shell.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    command.send_signal(number)
