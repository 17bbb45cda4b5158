"""A job's log tells the whole of it: every attempt, and what its workers said."""

import os
import subprocess
import sys

import pytest

from realign.engine.logs import LOGS_ONLY, LogFile


def attempt(log, line, done):
    """One attempt, before which Snakemake removes the log."""
    log.unlink(missing_ok=True)
    file = LogFile(log)
    file.go_on()
    with log.open("a") as stream:
        stream.write(line + "\n")
    if done:
        file.end()


def test_attempts_that_did_not_finish_stay_in_the_log(tmp_path):
    log = tmp_path / "logs" / "train.log"
    attempt(log, "stopped by a time limit", done=False)
    attempt(log, "killed", done=False)
    attempt(log, "done", done=True)
    assert log.read_text().splitlines() == ["stopped by a time limit", "killed", "done"]
    attempt(log, "another run", done=True)
    assert log.read_text().splitlines() == ["another run"]
    assert [p.name for p in log.parent.iterdir()] == [log.name]


@pytest.mark.parametrize("alone", [True, False])
def test_a_run_that_shows_its_own_output_has_each_line_in_the_log_alone(tmp_path, alone):
    """As in a worker that srun started: what it prints on stderr comes back to its job, which logs it."""
    code = "import logging, sys, pathlib, realign.engine.logs as logs; logs.start_logging(pathlib.Path(sys.argv[1]))"
    words = [sys.executable, "-c", f"{code}; logging.getLogger('realign').info('step 1')", tmp_path / "log"]
    environment = os.environ | ({LOGS_ONLY: "1"} if alone else {})
    printed = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stderr
    assert (tmp_path / "log").read_text().count("step 1") == 1
    assert printed.count("step 1") == (0 if alone else 1)


def test_without_a_log_there_is_nothing_to_tell():
    file = LogFile(None)
    file.go_on()
    file.end()
