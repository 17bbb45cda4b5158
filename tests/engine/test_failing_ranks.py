"""A rank that fails ends at once and says why, although NCCL's shutdown would wait for its peers."""

import os
import time

import pytest
import torch

from realign.engine import distributed
from realign.engine.distributed import World, joined
from realign.engine.launch import OutOfMemory, WorkerFailed, launch

# Destroying the group blocks, as NCCL's shutdown does while a peer is in a collective.
WORKER = """
import os, signal, time
import torch
import torch.distributed as dist
from realign.engine.deepspeed_setup import build_config, initialize
from realign.engine.distributed import joined
from realign.engine.worker import work

dist.destroy_process_group = lambda *_: time.sleep(600)


def main(spec, path):
    with joined() as world:
        model = torch.nn.Linear(8, 8)
        config = build_config(spec["stage"], "fp32", world.size, 72, 0.0)
        engine = initialize(
            model, [{"params": list(model.parameters())}], lambda g: torch.optim.AdamW(g), config
        )
        for step in range(100):
            loss = engine(torch.ones(2, 8, device=world.device)).sum()
            if step == 3 and world.rank == 1:
                fail(spec["how"])
            engine.set_gradient_accumulation_boundary(True)
            engine.backward(loss)
            engine.step()


def fail(how):
    if how == "raises":
        raise ValueError("seven is not a number")
    if how == "memory":
        torch.empty(1 << 60)  # on the CPU: 4 EB
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    work(main)
"""


@pytest.fixture
def one_of_two(monkeypatch):
    """This process as the first of two whose peers never answer; says which calls reached the group."""
    calls = []
    monkeypatch.setattr(distributed, "_place", lambda: World(0, 2, 0, torch.device("cpu")))
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *_, **__: calls.append("init"))
    monkeypatch.setattr(distributed.dist, "new_group", lambda **_: None)
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: "init" in calls)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: calls.append("destroy"))
    return calls


def test_the_group_is_destroyed_on_a_clean_exit(one_of_two):
    with joined(deepspeed=False):
        pass
    assert one_of_two == ["init", "destroy"]


def test_the_group_is_left_alone_when_a_rank_fails(one_of_two):
    with pytest.raises(ValueError, match="seven"), joined(deepspeed=False):
        raise ValueError("seven is not a number")
    assert one_of_two == ["init"]


WAYS = [
    ("raises", WorkerFailed, "seven is not a number"),
    ("memory", OutOfMemory, "allocate"),
    ("killed", WorkerFailed, "left no word: killed"),  # where its peer was ended before a word, both
]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize(("how", "error", "words"), WAYS)
def test_all_ranks_leave_within_seconds_when_one_fails_under_nccl(
    tmp_path, monkeypatch, stage, how, error, words
):
    """Destroying the group is left as it is: with NCCL, it is what would hang."""
    worker = WORKER.replace("dist.destroy_process_group = lambda *_: time.sleep(600)", "")
    (tmp_path / "failing_worker.py").write_text(worker)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(error, match=words):
        launch("failing_worker", {"stage": stage, "how": how}, tmp_path / "spec.json", 2, threads=1)
    assert time.monotonic() - began < 120


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*(pytest.param(s, marks=pytest.mark.long) for s in (0, 1)), 2, 3])
@pytest.mark.parametrize(("how", "error", "words"), WAYS)
def test_all_ranks_leave_within_seconds_when_one_fails(tmp_path, monkeypatch, stage, how, error, words):
    (tmp_path / "failing_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(error, match=words):
        launch("failing_worker", {"stage": stage, "how": how}, tmp_path / "spec.json", 2, threads=1)
    assert time.monotonic() - began < 120  # imports and start included; a blocked rank waits ten minutes


PATIENT = """
import time
from realign.engine.distributed import joined
from realign.engine.worker import work


def main(spec, path):
    # The limit also holds for meeting and connecting, which may take seconds on a busy machine.
    with joined(timeout_seconds=20, deepspeed=False) as world:
        world.gather_objects(world.rank)
        if world.is_main:
            time.sleep(24)
        world.wait()
        (path.parent / f"past-{world.rank}").touch()
        world.wait()


if __name__ == "__main__":
    work(main)
"""


@pytest.mark.slow
def test_processes_wait_for_one_that_writes_longer_than_a_collective_may_take(tmp_path, monkeypatch):
    (tmp_path / "patient_worker.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    launch("patient_worker", {}, tmp_path / "spec.json", 2, threads=1)
    assert (tmp_path / "past-0").exists()
    assert (tmp_path / "past-1").exists()
