"""The small parent of a job: what it says of a death, what it records, and what the next job asks for."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from realign.runs.supervisor import MemoryGroup, enough_memory, memory_record

JOB = """
import os, sys, time
from pathlib import Path
from realign.engine.logs import start_logging
from realign.engine.signals import Leaving
from realign.runs.supervisor import MemoryGroup, end_child, supervise

how, place = sys.argv[1], Path(sys.argv[2])
log = place / "logs/train/base+full+s0.log"
start_logging(log)

def work():
    (place / "child").write_text(str(os.getpid()))
    if how == "killed" or how == "memory":
        os.kill(os.getpid(), 9)
    if how == "leaves":
        with Leaving() as leaving:
            (place / "ready").touch()
            while not leaving.asked:
                time.sleep(0.01)
        return 75
    if how == "waits":
        (place / "ready").touch()
        time.sleep(60)
    if how == "works":
        (place / "ready").touch()
        while not (place / "enough").exists():
            time.sleep(0.01)
        return 0
    return int(how)

if how == "memory":
    counts = iter((0, 1))
    MemoryGroup.kills = lambda self: next(counts)
    MemoryGroup.limit_mb = lambda self: 1000
code = supervise("train", log)
if code is None:
    end_child(work())
sys.exit(code)
"""


@pytest.fixture
def job(tmp_path):
    def start(how):
        return subprocess.Popen(
            [sys.executable, "-c", JOB, how, str(tmp_path)], stderr=subprocess.PIPE, text=True
        )

    return start


def signalled(job, place, how, number):
    process = job(how)
    while not (place / "ready").exists():
        time.sleep(0.01)
    process.send_signal(number)
    return process


@pytest.mark.parametrize("code", [0, 1, 75])
def test_a_job_that_ends_by_itself_speaks_for_itself(job, code):
    process = job(str(code))
    assert process.communicate()[1] == ""
    assert process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_job_which_saves_and_leaves(job, tmp_path, number):
    process = signalled(job, tmp_path, "leaves", number)
    process.communicate()
    assert process.returncode == 75


def test_a_warning_does_not_end_work_that_has_nothing_to_save(job, tmp_path):
    process = signalled(job, tmp_path, "works", signal.SIGUSR1)
    time.sleep(0.3)
    assert process.poll() is None
    (tmp_path / "enough").touch()
    process.communicate()
    assert process.returncode == 0


def test_a_stop_on_this_machine_is_no_time_limit(job, tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    said = signalled(job, tmp_path, "waits", signal.SIGTERM).communicate()[1]
    assert "train, job base+full+s0" in said
    assert "stopped by SIGTERM; what was finished is kept. Run it again to go on" in said
    assert "resources" not in said


def test_a_job_that_answers_no_signal_is_told_of_with_the_setting_to_change(job, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    process = signalled(job, tmp_path, "waits", signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    for words in (
        "train, job base+full+s0",
        "time limit",
        "resources.rules.train.hours",
        "logs/train/base+full+s0.log",
    ):
        assert words in said


def test_a_killed_job_is_told_of_and_not_recorded_as_short_of_memory(job, tmp_path):
    process = job("killed")
    assert "SIGKILL" in process.communicate()[1]
    assert process.returncode == 128 + signal.SIGKILL
    assert enough_memory(tmp_path / "logs/train/base+full+s0.log", 900) == 900


def test_a_job_over_its_memory_is_told_of_and_the_next_one_asks_for_more(job, tmp_path):
    said = job("memory").communicate()[1]
    assert "killed for using more memory than its limit of 1000 MB" in said
    assert "resources.rules.train.memory_gb" in said
    log = tmp_path / "logs/train/base+full+s0.log"
    assert json.loads(memory_record(log).read_text()) == {"too_little_mb": 1000}
    assert enough_memory(log, 1000) == 1500
    assert enough_memory(log, 4000) == 4000  # the study asks for more by now


@pytest.mark.parametrize("left", ["", '{"too_lit', "null", "{}", '{"too_little_mb": null}'])
def test_a_record_that_was_cut_off_is_as_none(tmp_path, left):
    log = tmp_path / "base+full+s0.log"
    memory_record(log).write_text(left)
    assert enough_memory(log, 900) == 900


def test_a_job_does_not_outlive_its_parent(job, tmp_path):
    process = signalled(job, tmp_path, "waits", signal.SIGKILL)
    process.communicate()
    child = int((tmp_path / "child").read_text())
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("the child lives on")


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/job/step", {"memory.events": "oom 3\noom_kill 2\n", "memory.max": "max"}),
        (
            "4:memory:/job/step",
            {"memory.oom_control": "under_oom 0\noom_kill 2\n", "memory.limit_in_bytes": str(1 << 62)},
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_the_memory_group_is_read_in_both_versions(tmp_path, line, files):
    table = tmp_path / "cgroup"
    table.write_text(f"9:cpu:/elsewhere\n{line}\n")
    top = tmp_path / "fs" / ("memory" if "memory:" in line else "")
    (top / "job/step").mkdir(parents=True)
    for name, text in files.items():
        (top / "job/step" / name).write_text(text)
    limit = "memory.max" if "memory.max" in files else "memory.limit_in_bytes"
    (top / "job" / limit).write_text(str(300 << 20))
    group = MemoryGroup.of_this_process(table, tmp_path / "fs")
    assert (group.kills(), group.limit_mb()) == (2, 300)


def test_where_no_group_limits_memory_nothing_is_known(tmp_path):
    group = MemoryGroup.of_this_process(tmp_path / "none", tmp_path)
    assert (group.kills(), group.limit_mb()) == (0, None)
