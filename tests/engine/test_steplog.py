"""A step log holds each step once, however often its training was cut off."""

import pytest

from realign.engine.steplog import StepLog, read_steps


@pytest.mark.parametrize("cut", ["", '{"step": 4, "los', '{"step": 2}', "\n"])
def test_later_steps_and_a_line_that_a_kill_cut_short_are_cut_off(tmp_path, cut):
    path = tmp_path / "scratch" / "log.jsonl"
    log = StepLog(path)
    for step in (0, 1, 2, 2, 3):
        log.write(step, word="ü")
    log.close()
    path.write_text(path.read_text() + cut)
    log = StepLog(path, resumed=2)
    log.write(3, loss=0.5)
    log.close()
    assert [line["step"] for line in read_steps(path)] == [0, 1, 2, 2, 3]
    assert list(read_steps(path))[-1] == {"step": 3, "loss": 0.5}
    assert path.read_text().count("\n") == 5


def test_a_log_that_ends_before_its_checkpoint_goes_on_in_a_new_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    log = StepLog(path, resumed=2)
    log.write(3)
    log.close()
    assert [line["step"] for line in read_steps(path)] == [1, 3]


def test_a_training_from_the_start_begins_a_new_log_and_other_processes_write_none(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n')
    StepLog(path).close()
    assert path.read_text() == ""
    silent = StepLog(None, resumed=3)
    silent.write(4, loss=1.0)
    silent.close()
    assert list(read_steps(tmp_path / "none")) == []
