import os
import signal
import subprocess
import sys
import time

import pytest

from realign.runs.leaving import SHELL_PREFIX

COMMAND = """
import signal, sys, time
def note(number, _):
    open(sys.argv[1], "a").write(signal.Signals(number).name)
    sys.exit(0)
signal.signal(signal.SIGTERM, note)
signal.signal(signal.SIGUSR1, note)
open(sys.argv[1], "w").close()
time.sleep(60)
"""
# A Snakemake of a cluster job: it sets a handler for SIGTERM after the workflow has been read.
AROUND = """
import signal, subprocess, sys
from realign.runs.leaving import leave_signals_to_commands
leave_signals_to_commands(hand_on=True)
signal.signal(signal.SIGTERM, lambda *_: None)
sys.exit(subprocess.run(["bash", "-c", sys.argv[1]]).returncode)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_first_process_of_a_job_reaches_its_command(tmp_path, number):
    place, command = tmp_path / "told", tmp_path / "command.py"
    command.write_text(COMMAND)
    words = f"{SHELL_PREFIX} {sys.executable} {command} {place}"
    around = subprocess.Popen([sys.executable, "-c", AROUND, words], env=os.environ)
    wait_for(place.exists)
    around.send_signal(number)
    assert around.wait(20) == 0
    assert place.read_text() == number.name


def wait_for(true) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
