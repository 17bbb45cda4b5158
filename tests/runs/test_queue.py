"""Jobs of an earlier run that are still in the queue: found by its name, and not doubled."""

import json

import pytest

from realign.artifacts.command import UserError
from realign.runs.queue import name_in_queue, refuse_doubles, user_here

QUEUE = """#!/bin/sh
echo "$@" > asked
{}
"""


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, queue in (("a", "realign_1"), ("b", None), ("c", "realign_2")):
        (tmp_path / ".runs").mkdir(exist_ok=True)
        (tmp_path / ".runs" / f"{name}.json").write_text(json.dumps({"queue": queue}))
    return tmp_path / ".runs"


def answer(records, shell):
    squeue = records.parent / "squeue"
    squeue.write_text(QUEUE.format(shell))
    squeue.chmod(0o755)


def test_jobs_of_earlier_runs_stop_a_new_one_and_are_named(records):
    me = user_here()
    answer(
        records, f"echo '17|RUNNING|{me}|rule_train_wildcards_base_full_0'; echo '18|PENDING|{me}|rule_mine'"
    )
    with pytest.raises(UserError, match=r"17 running: rule_train_wildcards_base_full_0(.|\n)*scancel 17 18$"):
        refuse_doubles(records)
    assert "--name=realign_1,realign_2" in (records.parent / "asked").read_text()


def test_jobs_that_somebody_else_left_stop_a_run_too(records):
    """Several people may work on one folder of results."""
    answer(records, f"echo '17|RUNNING|{user_here()}|rule_train'; echo '18|PENDING|ann|rule_mine'")
    with pytest.raises(UserError) as stopped:
        refuse_doubles(records)
    assert "18 pending (ann): rule_mine" in str(stopped.value)
    assert str(stopped.value).endswith("cancel them: scancel 17, and ask ann to cancel theirs")
    assert "--me" not in (records.parent / "asked").read_text()


def test_an_empty_queue_lets_a_run_start(records):
    answer(records, "true")
    refuse_doubles(records)


def test_a_queue_that_does_not_answer_is_no_empty_queue(records):
    answer(records, "echo 'slurm_load_jobs error' >&2; exit 1")
    with pytest.raises(UserError, match="slurm_load_jobs error"):
        refuse_doubles(records)


def test_a_local_run_starts_though_the_queue_of_an_earlier_one_is_gone(records, caplog):
    answer(records, "echo 'Unknown host' >&2; exit 1")
    refuse_doubles(records, queued=False)
    assert "Unknown host" in caplog.text


def test_without_earlier_runs_or_without_slurm_nothing_is_asked(records, tmp_path, monkeypatch):
    answer(records, "exit 1")
    refuse_doubles(tmp_path / "other")
    (tmp_path / "squeue").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    refuse_doubles(records)


def test_a_run_without_a_queue_has_no_name_in_it():
    assert name_in_queue(object()) is None
