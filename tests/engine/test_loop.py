"""The steps of a training and the progress that is shown of them."""

import contextlib
import logging
import os

import pytest
import torch

from realign import cli
from realign.artifacts.arguments import build_parser
from realign.commands import load_command
from realign.engine import loop
from realign.engine.distributed import World
from realign.engine.signals import Leaving


class Shown:
    """Progress that notes when it begins and ends."""

    def __init__(self, *_):
        self.open = True
        seen.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open = False


seen: list[Shown] = []


def test_progress_begins_with_the_steps_and_ends_with_a_step_that_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Progress", Shown)
    seen.clear()
    alone = World(0, 1, 0, torch.device("cpu"))
    with Leaving() as leaving:
        training = loop.Loop("train", 3, 10, 30.0, tmp_path, alone, leaving)
    assert not seen  # what is set up before the first step takes none of its time

    def fail():
        with contextlib.closing(training.steps_left()) as steps:
            for _ in steps:
                raise loop.TrainingStopped

    with pytest.raises(loop.TrainingStopped) as held:
        fail()
    assert held.traceback  # its frames keep the generator, which therefore nobody else closes
    assert [shown.open for shown in seen] == [False]


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """Runs steps of a training that take so many seconds each; gives the steps that were saved."""

    def run(seconds, save_minutes=30.0, save_every=100, saving=0.0):
        clock, saved = [0.0], []

        def tensors(engine):
            clock[0] += saving
            return {}, {}

        monkeypatch.setattr(loop, "training_tensors", tensors)
        monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
        alone = World(0, 1, 0, torch.device("cpu"))
        with Leaving() as leaving:
            training = loop.Loop("train", 8, save_every, save_minutes, tmp_path, alone, leaving)
        monkeypatch.setattr(training.checkpoints, "save", lambda step, *_: saved.append(step))
        with contextlib.closing(training.steps_left()) as steps:
            for step in steps:
                clock[0] += seconds
                training.end_step(step + 1, None, {}, {})
        return saved

    return run


def test_a_checkpoint_is_written_when_the_last_is_too_old_though_few_steps_are_done(timed):
    assert timed(seconds=600) == [3, 6]
    assert timed(seconds=600, save_minutes=50) == [5]
    assert timed(seconds=1) == []
    assert timed(seconds=600, save_every=4) == [3, 4, 7]  # each is the last one's age anew


def warnings(caplog):
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_log_tells_when_the_clusters_warning_is_too_short(timed, caplog, monkeypatch):
    monkeypatch.delenv(loop.WARNING, raising=False)
    for warned in ("", "0", "400"):  # no cluster, one that doesn't warn, and one that warns early enough
        if warned:
            monkeypatch.setenv(loop.WARNING, warned)
        timed(seconds=200, save_minutes=10, saving=150)
        assert not warnings(caplog)
    monkeypatch.setenv(loop.WARNING, "300")
    timed(seconds=200, save_minutes=10, saving=50)
    assert not warnings(caplog)
    timed(seconds=200, save_minutes=10, saving=150)
    assert "a step and its save take 350 s, and the cluster warns a job 300 s before" in caplog.text
    assert "warning_seconds" in caplog.text


@pytest.mark.parametrize(("job", "kept"), [("17", "900"), (None, "0")])
def test_a_command_keeps_its_warning_time_where_slurm_runs_it(monkeypatch, job, kept):
    monkeypatch.setenv(loop.WARNING, "")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    paths = [f"--{name}=x" for name in ("backbone", "data", "model", "checkpoints", "training-log", "tidy")]
    words = build_parser(load_command("train")).parse_args([*paths, "--warning-seconds", "900"])
    cli._may_work("train", None, words)
    assert os.environ[loop.WARNING] == kept
