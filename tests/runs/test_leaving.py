"""Who answers a signal: the command, once, through the shell, Snakemake and the supervisor around it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from realign.runs.leaving import SHELL_PREFIX
from terminal import Terminal

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
from realign.runs.leaving import hand_signals_on, live_through_warnings
live_through_warnings()
hand_signals_on()
signal.signal(signal.SIGTERM, lambda *_: None)
sys.exit(subprocess.run(["bash", "-c", sys.argv[1]]).returncode)
"""
# The Snakemake of a run on this machine, and a command that saves for a while when asked to leave.
RUN = """
import subprocess, sys, threading
from realign.runs.leaving import SHELL_PREFIX, hand_signals_on
stopped = threading.Event()
hand_signals_on(stop=stopped.set)
code = subprocess.run(["bash", "-c", f"{SHELL_PREFIX} {sys.executable} -c '{sys.argv[1]}' {sys.argv[2]}"]).returncode
print("stopped" if stopped.is_set() else "not stopped", code, flush=True)
"""
SAVER = """
import os, sys, time
from pathlib import Path
from realign.engine.signals import Leaving
from realign.runs.supervisor import end_child, supervise
place = Path(sys.argv[1])
def work():
    with Leaving() as leaving:
        (place / "child").write_text(str(os.getpid()))
        (place / "ready").touch()
        while not leaving.asked:
            time.sleep(0.01)
        (place / "asked").touch()
        for _ in range(200 if (place / "slow").exists() else 1):
            time.sleep(0.1)
        (place / "saved").touch()
    return 75
code = supervise("train", None)
if code is None:
    end_child(work())
sys.exit(code)
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


@pytest.fixture
def run(tmp_path):
    """A run on a terminal whose one command is at work."""

    def start(slow=False):
        if slow:
            (tmp_path / "slow").touch()
        terminal = Terminal([sys.executable, "-c", RUN, SAVER, str(tmp_path)])
        terminal.until((tmp_path / "ready").exists, "the command works")
        return terminal

    return start


def test_one_ctrl_c_lets_the_command_save_and_the_run_end(run, tmp_path):
    terminal = run()
    terminal.press_ctrl_c()
    assert terminal.wait(20) == 0
    assert (tmp_path / "saved").exists()
    assert "stopped 75" in terminal.said
    assert "\r\x1b[KStopping: running jobs save their work." in terminal.said  # over the line of what runs
    assert "Press Ctrl-C again to stop at once" in terminal.said


def test_a_second_ctrl_c_stops_at_once(run, tmp_path):
    terminal = run(slow=True)
    terminal.press_ctrl_c()
    terminal.until((tmp_path / "asked").exists, "the command saves")
    began = time.monotonic()
    terminal.press_ctrl_c()
    terminal.wait(20)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "saved").exists()
    assert not alive(int((tmp_path / "child").read_text()))
    assert "stopped 1" in terminal.said  # 130, or 143 where SIGTERM comes on top of it
    assert "stopped by Ctrl-C; what was finished is kept" in terminal.said


@pytest.mark.parametrize("how", ["SIGTERM", "closed"])
def test_sigterm_and_a_closed_terminal_let_the_command_save(run, tmp_path, how):
    terminal = run()
    if how == "closed":
        terminal.close()
    else:
        os.kill(terminal.pid, signal.SIGTERM)
    terminal.wait(20)
    wait_for((tmp_path / "saved").exists)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_for(true) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
