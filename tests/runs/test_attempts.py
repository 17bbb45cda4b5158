"""Which failures end a job's attempts: those that would come again."""

import pytest

from realign.artifacts.command import RUN_VARIABLE, NodeError, UserError
from realign.cli import _explain
from realign.mining.endpoint import NoAnswerError
from realign.runs.attempts import error_record, forget_failures


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, "run-1")
    return tmp_path / "x.log"


def attempts(log, *errors, most=4):
    """How many attempts are made that end with these errors, the last one again and again."""
    for count in range(1, most + 1):
        error_record(log).unlink(missing_ok=True)
        _explain("train", errors[min(count, len(errors)) - 1], log)
        if error_record(log).exists():
            return count
    return most


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (UserError("step 46: the queries have collapsed"), 1),
        (KeyError("loss"), 2),
        (FileNotFoundError(2, "No such file or directory", "pairs.jsonl"), 3),
        (NodeError("1 GPU asked for, and no GPU to be seen"), 4),
        (NoAnswerError("no answer in 6 tries"), 4),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), 4),
        (RuntimeError("a worker was killed (SIGKILL); perhaps the machine ran out of memory"), 4),
        (OSError(116, "Stale file handle"), 4),
    ],
)
def test_a_failure_that_would_come_again_ends_the_attempts(log, error, count):
    assert attempts(log, error) == count


def test_failures_that_differ_are_tried_again(log):
    assert attempts(log, KeyError("a"), KeyError("b"), KeyError("a"), KeyError("a")) == 4


def test_another_run_and_a_job_that_was_done_begin_anew(log, monkeypatch):
    assert attempts(log, KeyError("a"), most=1) == 1
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    assert attempts(log, KeyError("a")) == 2
    forget_failures(log)
    assert attempts(log, KeyError("a")) == 2


def test_an_error_that_only_follows_names_the_real_one(log):
    """A training that crashes is told in the end that it gained nothing, which does not say why."""
    attempts(log, RuntimeError("CUDA error: an illegal access"), UserError("gained nothing"))
    why = "RuntimeError: CUDA error: an illegal access"
    assert log.read_text().endswith(f"train: gained nothing (an attempt before: {why})\n")
