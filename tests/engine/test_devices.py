"""A job that was given GPUs does not work without them, and says what to change."""

import json

import pytest
import torch

from realign.artifacts.command import UserError
from realign.cli import main
from realign.engine import devices
from realign.engine.devices import PROMISED, need_gpus
from realign.runs.journal import JobStatus
from realign.runs.status import remedy_of


def seen(monkeypatch, count):
    monkeypatch.setenv(PROMISED, "0")  # put back at the end: processes that other tests start look there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("asked", "there"), [(1, 1), (2, 4), (0, 0)])
def test_enough_gpus_are_no_reason_to_stop(monkeypatch, asked, there):
    seen(monkeypatch, there)
    need_gpus("train", asked)


@pytest.mark.parametrize(
    ("asked", "there", "told"), [(1, 0, "1 GPU asked for, and no GPU"), (4, 2, "and 2 to")]
)
def test_too_few_gpus_are_told_with_the_setting_to_change(monkeypatch, asked, there, told):
    seen(monkeypatch, there)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(UserError) as stopped:
        need_gpus("train", asked)
    said = str(stopped.value)
    assert told in said
    assert "CUDA_VISIBLE_DEVICES is '3,5'" in said
    assert "set resources.rules.train.gpus to 0" in said
    failed = JobStatus("train(backbone=b)", "train", {"backbone": "b"}, [], 0.0)
    assert "resources.backbones.b.train.gpus" in remedy_of(failed, said)


def test_a_command_without_its_gpus_does_no_work_but_still_publishes(tmp_path, monkeypatch, capsys):
    source = tmp_path / "raw.jsonl"
    source.write_text(json.dumps({"query": ["", "a question"], "pos": ["an answer"], "neg": []}) + "\n")
    words = [
        *(
            "pairs",
            "--source",
            str(source),
            "--settings",
            '{"dataset": {"file": "raw.jsonl"}}',
            "--store",
            str(tmp_path / "store"),
        ),
        *("--pairs", str(tmp_path / "pairs.jsonl"), "--stats", str(tmp_path / "stats.json")),
    ]
    seen(monkeypatch, 0)
    assert main([*words, "--gpus", "1"]) == 1
    assert "no GPU to be seen" in capsys.readouterr().err
    assert not (tmp_path / "pairs.jsonl").exists()
    assert main(words) == 0
    (tmp_path / "pairs.jsonl").unlink()
    assert main([*words, "--gpus", "1"]) == 0
    assert (tmp_path / "pairs.jsonl").is_file()


def missing(monkeypatch, tmp_path, cuda="13.0", driver=None) -> str:
    """What a job is told on a node without a GPU in sight."""
    seen(monkeypatch, 0)
    version = tmp_path / "version"
    if driver:
        version.write_text(
            f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build\n"
            "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
        )
    monkeypatch.setattr(devices, "DRIVER", version)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(UserError) as stopped:
        need_gpus("extract", 1)
    return str(stopped.value)


def test_a_driver_older_than_torch_is_named(monkeypatch, tmp_path):
    told = missing(monkeypatch, tmp_path, "13.0", "550.90.07")
    assert "CUDA 13.0, which needs a driver of 580 or newer, and this node has 550" in told


@pytest.mark.parametrize(("cuda", "driver"), [("13.0", "580.65.06"), ("12.6", "550.90.07")])
def test_a_driver_that_suits_torch_is_no_reason(monkeypatch, tmp_path, cuda, driver):
    assert "driver" not in missing(monkeypatch, tmp_path, cuda, driver)


def test_a_container_on_a_gpu_node_that_was_started_without_its_gpus_is_named(monkeypatch, tmp_path):
    container = tmp_path / "container"
    monkeypatch.setattr(devices, "CONTAINER", container)
    monkeypatch.setattr(devices, "find_library", lambda name: None)
    told = missing(monkeypatch, tmp_path)
    assert "no NVIDIA driver is loaded" in told
    (container / "libs").mkdir(parents=True)
    told = missing(monkeypatch, tmp_path)
    assert "no NVIDIA driver is loaded" in told  # also in a container: --nv would not help
    assert "--nv" not in told
    assert "--nv" in missing(monkeypatch, tmp_path, driver="580.65.06")
    (container / "libs/libcuda.so.1").touch()
    assert "--nv" not in missing(monkeypatch, tmp_path, driver="580.65.06")
    (container / "libs/libcuda.so.1").unlink()
    monkeypatch.setattr(devices, "find_library", lambda name: "libcuda.so.1")
    assert "--nv" not in missing(monkeypatch, tmp_path, driver="580.65.06")
