"""Who answers when a scheduler asks a job to leave: the command that does the work, and nobody around it.

Some schedulers signal every process of a job: the shell of the rule, the Snakemake that runs the
rule, and the command. If shell or Snakemake died of it, the job would end and the command would be
killed while it saves. Others (SLURM, where it tracks processes by cgroup) signal only the process
that they started, which is that Snakemake: it hands the word on to the command. A command that
hears it twice takes the same note twice.
"""

import contextlib
import os
import signal
import threading

from realign.engine.signals import SIGNALS

# A trap, unlike an ignored signal, is not handed down to the command; the shell waits for it to end.
SHELL_PREFIX = "set -euo pipefail; trap : TERM USR1; "


def leave_signals_to_commands(hand_on: bool) -> None:
    """Let this Snakemake live through SIGUSR1 (at SIGTERM it waits for its jobs by itself).

    The Snakemake of a cluster job hands both on. It sets its own handler for SIGTERM later; what
    arrives is therefore read from where Python notes every signal that has a handler, whosever it is.
    """
    signal.signal(signal.SIGUSR1, lambda *_: None)
    if not hand_on:
        return
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    threading.Thread(target=_hand_on, args=(reads,), name="signals", daemon=True).start()


def _hand_on(reads: int) -> None:
    while numbers := os.read(reads, 64):
        for number in set(numbers) & set(SIGNALS):
            tell_commands(signal.Signals(number))


def tell_commands(number: signal.Signals) -> None:
    """Signal the commands that this process's shells run."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for shell in psutil.Process().children():
            for command in shell.children():
                command.send_signal(number)
