import os
import re
import signal
import threading
import time

import pytest

from realign.artifacts.command import Interrupted, UserError
from realign.engine import launch as launching
from realign.engine.launch import OutOfMemory, WorkerFailed, _judge, command_line, launch
from realign.engine.signals import Leaving

WORKER = """
import os, sys, time
from pathlib import Path
from realign.artifacts.command import Interrupted, UserError
from realign.engine.launch import notice_path
from realign.engine.signals import Leaving
from realign.engine.worker import work


def main(spec, path):
    rank = int(os.environ.get("RANK", 0))
    Path(spec["place"], f"rank-{rank}").write_text(os.environ.get("WORLD_SIZE", "1"))
    how = spec["how"] if rank == spec.get("who", 0) else "well"
    if how == "wait":
        with Leaving(notice_path(path)) as leaving:
            Path(spec["place"], "ready").touch()
            while not leaving.asked:
                time.sleep(0.01)
        raise Interrupted("saved at step 7")
    if how == "memory":
        import torch
        torch.empty(1 << 60)
    if how == "user":
        raise UserError("data.jsonl, line 3: no positive")
    if how == "fail":
        raise ValueError("seven is not a number")
    if how == "vanish":
        os._exit(5)


if __name__ == "__main__":
    work(main)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "launched_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "launched_worker"


def start(module, tmp_path, how, **more):
    processes = more.pop("processes", 1)
    launch(module, {"place": str(tmp_path), "how": how, **more}, tmp_path / "spec.json", processes, threads=1)


def test_one_process_is_started_without_torchrun(tmp_path):
    assert "torch.distributed.run" not in command_line("m", tmp_path / "s", 1)
    assert "--nproc-per-node=3" in command_line("m", tmp_path / "s", 3)


def test_a_worker_that_does_well_returns(module, tmp_path):
    start(module, tmp_path, "well")
    assert (tmp_path / "rank-0").read_text() == "1"


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("memory", OutOfMemory, "allocate"),
        ("user", UserError, "line 3"),
        ("fail", WorkerFailed, "seven"),
        ("vanish", WorkerFailed, "exit code 5"),
    ],
)
def test_how_a_worker_ended_reaches_its_parent(module, tmp_path, how, error, words):
    with pytest.raises(error, match=words):
        start(module, tmp_path, how)


def send_when_ready(tmp_path, number):
    def send():
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def test_peers_that_were_ended_with_a_killed_one_do_not_hide_that_it_was(tmp_path):
    with pytest.raises(WorkerFailed, match=r"ranks 0, 1 left no word: killed, perhaps for lack of memory"):
        _judge(tmp_path / "spec.json", 1, 2)
    with pytest.raises(WorkerFailed, match="rank 0 left no word; see the log"):  # by its own code, not killed
        _judge(tmp_path / "spec.json", 1, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_launcher_lets_the_worker_save_and_leave(module, tmp_path, number):
    send_when_ready(tmp_path, number)
    with pytest.raises(Interrupted, match="step 7"):
        start(module, tmp_path, "wait")


@pytest.mark.slow
def test_torchrun_starts_all_ranks_and_tells_why_one_failed(module, tmp_path):
    start(module, tmp_path, "well", processes=2)
    assert {(tmp_path / f"rank-{r}").read_text() for r in range(2)} == {"2"}
    with pytest.raises(OutOfMemory):
        start(module, tmp_path, "memory", processes=2, who=1)


@pytest.mark.slow
def test_a_signal_crosses_torchrun(module, tmp_path):
    send_when_ready(tmp_path, signal.SIGTERM)
    with pytest.raises(Interrupted, match="step 7"):
        start(module, tmp_path, "wait", processes=2)


def test_many_machines_need_an_allocation(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match="no SLURM allocation"):
        command_line("m", tmp_path / "s", 2, nodes=2)


def test_many_machines_meet_at_the_first_of_the_allocation(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "_allocation", lambda nodes: ("42", "node7"))
    one, again, other = (command_line("m", tmp_path / name, 4, nodes=2) for name in ("s", "s", "t"))
    assert one[0] == "srun"
    assert {"--nnodes=2", "--nproc-per-node=4"} <= set(one)
    assert one == again  # every machine is told the same
    assert "--master-addr=node7" in one
    # launches side by side in one allocation do not meet each other
    for start, told in (("--rdzv-id=42-", r"[0-9a-f]{8}"), ("--master-port=", r"[23]\d{4}")):
        mine, theirs = ([w for w in words if w.startswith(start)] for words in (one, other))
        assert re.fullmatch(told, mine[0].removeprefix(start))
        assert mine != theirs


def test_workers_let_segments_of_gpu_memory_grow_unless_the_user_says_otherwise(monkeypatch):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    assert launching._environment(1, 1, 1)["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    assert "PYTORCH_ALLOC_CONF" not in launching._environment(1, 1, 1)


def test_leaving_gives_the_handlers_back():
    before = signal.getsignal(signal.SIGUSR1)
    with Leaving() as leaving:
        assert not leaving.asked
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.01)
        assert leaving.asked
        assert leaving.received == "SIGUSR1"
    assert signal.getsignal(signal.SIGUSR1) is before
