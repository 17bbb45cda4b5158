"""Checkpoints of long jobs: tensors in safetensors and a state in JSON, whole or not there at all.

A checkpoint is written into a hidden neighbour and renamed when everything is on the disk; its
`state.json` names the size and the hash of the tensors. What a killed job left half-written, or
what a disk spoiled, is passed over with a warning, and the checkpoint before it is used.
"""

import json
import logging
import os
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from realign.artifacts.command import UserError
from realign.artifacts.hashing import hash_file
from realign.engine.distributed import World

log = logging.getLogger(__name__)
VERSION = 1
_NAME = re.compile(r"^step-(\d{9,})$")


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint on the disk."""

    step: int
    folder: Path
    state: Mapping[str, Any]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All its tensors, on the CPU."""
        return load_file(self.folder / "tensors.safetensors")


class Checkpoints:
    """The checkpoints of one job, newest last; only the last `keep` of them stay, or all."""

    def __init__(self, folder: Path, keep: int | None = 2):
        if keep is not None and keep < 1:
            raise ValueError("at least one checkpoint has to be kept")
        self.folder = folder
        self.keep = keep

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Checkpoint:
        """Write a checkpoint; afterwards it is there whole, and older ones beyond `keep` are gone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / f".writing-{step:09d}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        file = beside / "tensors.safetensors"
        save_file({name: _plain(tensor) for name, tensor in tensors.items()}, file)
        _flush(file)
        record: dict[str, Any] = {
            "version": VERSION,
            "step": step,
            "size": file.stat().st_size,
            "sha256": hash_file(file),
            "state": dict(state),
        }
        (beside / "state.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", "utf-8")
        _flush(beside / "state.json")
        place = self.folder / f"step-{step:09d}"
        shutil.rmtree(place, ignore_errors=True)
        beside.rename(place)
        _flush(self.folder)
        for _, old in self._folders()[: -self.keep] if self.keep else ():
            shutil.rmtree(old, ignore_errors=True)
        return Checkpoint(step, place, record["state"])

    def latest(self, up_to: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that is whole, of a step at most `up_to`, or nothing."""
        return next(self._whole(up_to), None)

    def agreed(self, world: World, up_to: int | None = None) -> Checkpoint | None:
        """The newest such checkpoint, the same on all processes, or nothing.

        The first process alone reads all of it to check it, and tells the others which one it is.
        """
        newest = self.latest(up_to) if world.is_main else None
        world.wait()  # hashing a large checkpoint may outlast a collective's limit
        step, *_ = world.gather_objects(newest.step if newest else None)
        found = newest if newest or step is None else self._at(step)
        if world.any(step is not None and found is None):
            raise UserError(f"{self.folder}: not all processes see the checkpoint of step {step}")
        return found

    def _at(self, step: int) -> Checkpoint | None:
        """The checkpoint of a step that another process found whole; its tensors are not read again."""
        folder = self.folder / f"step-{step:09d}"
        if not (folder / "state.json").is_file():
            return None
        return Checkpoint(step, folder, _read_record(step, folder)["state"])

    def _whole(self, up_to: int | None) -> Iterator[Checkpoint]:
        for step, folder in reversed(self._folders()):
            if up_to is not None and step > up_to:
                continue
            try:
                yield Checkpoint(step, folder, _read_state(step, folder))
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("checkpoint %s is not usable (%s); looking for an earlier one", folder, error)

    def _folders(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        named = ((_NAME.match(path.name), path) for path in self.folder.iterdir())
        return sorted((int(found[1]), path) for found, path in named if found)


def _read_record(step: int, folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if record["version"] != VERSION:
        raise ValueError(f"format version {record['version']}, expected {VERSION}")
    if record["step"] != step:
        raise ValueError(f"its state is of step {record['step']}")
    return record


def _read_state(step: int, folder: Path) -> Mapping[str, Any]:
    record, file = _read_record(step, folder), folder / "tensors.safetensors"
    if file.stat().st_size != record["size"] or hash_file(file) != record["sha256"]:
        raise ValueError("its tensors are not the ones that were written")
    return record["state"]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu").contiguous()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seed_everything(seed: int) -> None:
    """Seed every random generator of this process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries draw from it)
    torch.manual_seed(seed)
