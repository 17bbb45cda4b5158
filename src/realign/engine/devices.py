"""The devices of this process: their precision, and whether its GPUs are those that its job was given."""

import os
import re
from ctypes.util import find_library
from pathlib import Path
from typing import Literal

import torch

from realign.artifacts.command import NodeError

PROMISED = "REALIGN_GPUS"
DRIVER = Path("/proc/driver/nvidia/version")
LIBRARY = "libs/libcuda.so.1"  # the driver's part for processes, which Apptainer brings along with --nv
DRIVERS = {12: 525, 13: 580}  # the oldest driver that runs what was built for a CUDA, by its main version
CONTAINER = Path("/.singularity.d")  # in every container of Apptainer
Precision = Literal["fp32", "bf16"]


def precision_on(device: torch.device, asked: Literal["auto", "fp32", "bf16"]) -> Precision:
    """The type of a training's computation on a device: by default bf16 on GPUs and fp32 elsewhere."""
    if asked == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return asked


def need_gpus(rule: str, asked: int) -> None:
    """Raise where this process sees fewer GPUs than its job asked for, since it would work on without them.

    The scheduler may have given them all the same: a broken driver and a torch that was built for CPUs
    alone look alike, and a job that trains on a CPU for days instead is the dearest way to find out.
    """
    os.environ[PROMISED] = str(asked)  # on each node of a job: its other processes look as well
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen >= asked:
        return
    hints = [*_reasons(), f"node {os.uname().nodename}"]
    raise NodeError(
        f"{asked} GPU{'s' if asked > 1 else ''} asked for, and {seen or 'no GPU'} to be seen "
        f"({'; '.join(hints)}). Where it shall work on CPUs, "
        f"set resources.rules.{rule}.gpus to 0 in the study (or backbones.NAME.{rule}.gpus there)"
    )


def _reasons() -> list[str]:
    """What may hide a GPU from this process, the most certain first."""
    built, driver, reasons = torch.version.cuda, _driver(), []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if built is None:
        reasons.append("torch was built without CUDA (install envs/gpu.lock)")
    elif driver and driver < (needed := DRIVERS.get(int(built.split(".")[0]), 0)):
        reasons.append(
            f"torch was built for CUDA {built}, which needs a driver of {needed} or newer, and this node has "
            f"{driver}; install a build for an older CUDA (docs/cluster.md) or ask for a newer driver"
        )
    if given is not None:
        reasons.append(f"CUDA_VISIBLE_DEVICES is '{given}'")
    if not driver:
        reasons.append("no NVIDIA driver is loaded")
    elif CONTAINER.is_dir() and not ((CONTAINER / LIBRARY).exists() or find_library("cuda")):
        reasons.append("the container was started without its GPUs (Apptainer: --nv)")
    return reasons


def _driver() -> int:
    """The main version of this node's NVIDIA driver, which a container sees, too; 0 where none is loaded."""
    if not DRIVER.is_file():
        return 0
    found = re.search(r"Kernel Module[^\n]*?\s(\d+)\.\d+", DRIVER.read_text(encoding="utf-8"))
    return int(found[1]) if found else 0


def need_promised_gpus() -> None:
    """The same for a process that its job started, perhaps on another node."""
    if asked := int(os.environ.get(PROMISED, 0)):
        need_gpus("train", asked)  # the only one of several nodes
