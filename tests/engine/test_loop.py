"""The steps of a training and the progress that is shown of them."""

import contextlib

import pytest
import torch

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
        training = loop.Loop("train", 3, 10, tmp_path, alone, leaving)
    assert not seen  # what is set up before the first step takes none of its time

    def fail():
        with contextlib.closing(training.steps_left()) as steps:
            for _ in steps:
                raise loop.TrainingStopped

    with pytest.raises(loop.TrainingStopped) as held:
        fail()
    assert held.traceback  # its frames keep the generator, which therefore nobody else closes
    assert [shown.open for shown in seen] == [False]
