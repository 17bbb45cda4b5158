"""Who answers when a scheduler asks a job to leave: the command that does the work, and nobody around it.

A signal to a cluster job reaches every process: the shell of the rule, the Snakemake that runs the
rule, and the command. If shell or Snakemake died of it, the job would end and the command would be
killed while it saves.
"""

import signal

# A trap, unlike an ignored signal, is not handed down to the command; the shell waits for it to end.
SHELL_PREFIX = "set -euo pipefail; trap : TERM USR1; "


def leave_signals_to_commands() -> None:
    """Let this Snakemake live through SIGUSR1; at SIGTERM it waits for its jobs by itself."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
