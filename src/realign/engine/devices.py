"""The devices of this process: their precision, and whether its GPUs are those that its job was given."""

import os
from typing import Literal

import torch

from realign.artifacts.command import NodeError

PROMISED = "REALIGN_GPUS"
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
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    hints = [
        "torch was built without CUDA (install envs/gpu.lock)" if torch.version.cuda is None else "",
        f"CUDA_VISIBLE_DEVICES is '{given}'" if given is not None else "",
        f"node {os.uname().nodename}",
    ]
    raise NodeError(
        f"{asked} GPU{'s' if asked > 1 else ''} asked for, and {seen or 'no GPU'} to be seen "
        f"({'; '.join(filter(None, hints))}). Where it shall work on CPUs, "
        f"set resources.rules.{rule}.gpus to 0 in the study (or backbones.NAME.{rule}.gpus there)"
    )


def need_promised_gpus() -> None:
    """The same for a process that its job started, perhaps on another node."""
    if asked := int(os.environ.get(PROMISED, 0)):
        need_gpus("train", asked)  # the only one of several nodes
