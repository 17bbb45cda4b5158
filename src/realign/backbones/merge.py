"""A model made of other models' weights: on the line or the arc between two, with a difference, or grafted.

Weights are read tensor by tensor and computed in blocks, in float64; what a file of the result holds is all
that memory has to hold. A tensor in which the parents agree stays as it is, to the bit.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from realign.artifacts.command import Job, UserError
from realign.backbones.layout import (
    check_layout,
    load_tokenizer,
    model_files,
    place_file,
    read_config,
    weight_shapes,
)
from realign.backbones.model import DTYPES
from realign.engine.progress import follow
from realign.study.backbones import Merge

BLOCK = 2**23  # numbers that are computed at once
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


def run(job: Job[Merge]) -> None:
    """Merge the parents; the tokenizer and the config are those of the largest vocabulary."""
    settings, out = job.settings, job.output("model")
    torch.set_num_threads(job.threads)
    parents = [Parent.of(folder) for folder in job.inputs_of("parents")]
    check(parents, settings)
    model = max(parents, key=lambda parent: parent.vocabulary)  # the first of equals
    shards = sorted(set(model.homes.values()))
    for name in set(model.files) - set(shards):
        place_file(model.folder / name, out / name)
    for shard in follow(shards, "merge", unit="files"):
        with safe_open(model.folder / shard, "pt") as opened:
            names, metadata = list(opened.keys()), opened.metadata()
        merged = {name: merge([p.tensor(name) for p in parents], name, settings) for name in names}
        save_file(merged, out / shard, metadata)
    if settings.stored != "keep":
        _state_type(out, settings.stored)
    job.note(**check_layout(out))


@dataclass(frozen=True)
class Parent:
    """A model's folder, and what of it a merge must know before it reads weights."""

    folder: Path
    config: dict[str, Any]
    files: list[str]
    shapes: dict[str, tuple[int, ...]]
    homes: dict[str, str]  # the file of each tensor

    @classmethod
    def of(cls, folder: Path) -> "Parent":
        """What a folder says of its model."""
        inside = {file: weight_shapes(folder, [file]) for file in model_files(folder)}
        shapes = {name: shape for found in inside.values() for name, shape in found.items()}
        homes = {name: file for file, found in inside.items() for name in found}
        return cls(folder, read_config(folder), list(inside), shapes, homes)

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding, as the config states them."""
        return int(self.config.get("vocab_size") or 0)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor; its file is closed again, so that no more of it stays in memory."""
        with safe_open(self.folder / self.homes[name], "pt") as opened:
            return opened.get_tensor(name)


def check(parents: Sequence[Parent], settings: Merge) -> None:
    """Refuse models whose weights can't be put together, with the reason."""
    first, *others = parents
    for parent in parents:
        if "quantization_config" in parent.config:
            raise UserError(f"{parent.folder} is quantized; merge the model that it was made from")
    for other in others:
        where = f"{first.folder} and {other.folder}"
        if first.config["model_type"] != other.config["model_type"]:
            kinds = f"{first.config['model_type']} and {other.config['model_type']}"
            raise UserError(f"{where} are of two architectures, {kinds}, and can't be merged")
        if lone := sorted(first.shapes.keys() ^ other.shapes.keys()):
            raise UserError(f"only one of {where} has the tensor {lone[0]}; such models can't be merged")
        for name, shape in first.shapes.items():
            _check_shapes(name, shape, other.shapes[name], where, settings)
        _check_tokens(first.folder, other.folder)
    if settings.layers:
        numbers = [int(found[1]) for name in first.shapes if (found := _LAYER.search(name))]
        deepest = max(numbers, default=-1) + 1
        if settings.layers[1] > deepest:
            raise UserError(f"the graft ends at layer {settings.layers[1]}, and {first.folder} has {deepest}")


def _check_shapes(name: str, a: tuple[int, ...], b: tuple[int, ...], where: str, settings: Merge) -> None:
    """The same shape, or as many rows more as one vocabulary has."""
    if a == b:
        return
    if len(a) != len(b) or a[1:] != b[1:] or _LAYER.search(name):
        raise UserError(f"{name} is {a} and {b} in {where}; models of two shapes can't be merged")
    if settings.rows == "equal":
        raise UserError(
            f"{name} has {a[0]} and {b[0]} rows in {where}; `rows: larger` takes the rows that only one has "
            "from it, `rows: zeros` counts them as zeros in the other"
        )


def _check_tokens(a: Path, b: Path) -> None:
    """A row of the embedding must be the same token's in both; special tokens may have new names."""
    left, right = (_ordinary_tokens(folder) for folder in (a, b))
    if other := sorted(n for n in left.keys() & right.keys() if left[n] != right[n]):
        raise UserError(
            f"token {other[0]} is {left[other[0]]!r} in {a} and {right[other[0]]!r} in {b}: a row of one "
            "embedding is no row of the other's; merge models of one tokenizer"
        )


def _ordinary_tokens(folder: Path) -> dict[int, str]:
    tokenizer = load_tokenizer(folder)
    special = set(tokenizer.get_added_vocab())
    return {number: token for token, number in tokenizer.get_vocab().items() if token not in special}


def merge(tensors: Sequence[torch.Tensor], name: str, settings: Merge) -> torch.Tensor:
    """One tensor of the result, in the first one's type or in the one that is asked for."""
    dtype = DTYPES.get(settings.stored, tensors[0].dtype)
    if settings.stored == "keep" and (other := {str(t.dtype)[6:] for t in tensors} - {str(dtype)[6:]}):
        raise UserError(
            f"{name} is {str(dtype)[6:]} in the first model and {other.pop()} in another; "
            "`stored` says which type the result has"
        )
    if not tensors[0].is_floating_point():
        if any(not torch.equal(tensors[0], tensor) for tensor in tensors[1:]):
            raise UserError(f"{name} holds whole numbers, in which the models differ; they can't be merged")
        return tensors[0]
    if settings.method == "graft":
        found = _LAYER.search(name)
        first, last = settings.layers or (0, -1)
        inside = found is not None and first <= int(found[1]) + 1 <= last
        return _of_one_shape(tensors, settings.rows)[1 if inside else 0].to(dtype).contiguous()
    flat = [part.flatten() for part in _of_one_shape(tensors, settings.rows)]
    shape = max((tensor.shape for tensor in tensors), key=tuple)
    weights = _weights(flat, settings)
    out = torch.empty(flat[0].shape, dtype=dtype)
    for block in _blocks(len(out)):
        out[block] = _combined([part[block] for part in flat], weights).to(dtype)
    return out.view(shape)


def _combined(parts: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The weighted sum of a block; what is one parent's alone, or all parents', keeps its bits."""
    counting = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight]
    if [weight for _, weight in counting] == [1]:
        return counting[0][0]
    total = torch.zeros(parts[0].shape, dtype=torch.double)
    for part, weight in counting:
        total.add_(part.double(), alpha=weight)
    if math.isclose(sum(weights), 1):  # on a line, equal weights at its ends are the first one's everywhere
        total = torch.where(parts[-2] == parts[-1], parts[0].double(), total)
    return total


def _weights(flat: Sequence[torch.Tensor], settings: Merge) -> tuple[float, ...]:
    """What each parent's tensor counts in the sum."""
    alpha = settings.alpha
    if settings.method == "arithmetic":
        return (1.0, -alpha, alpha)
    if settings.method == "slerp" and alpha not in (0, 1):
        dot, left, right = (_dot(flat[i], flat[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
        cosine = dot / math.sqrt(left * right) if left and right else 1.0
        if abs(cosine) <= min(settings.threshold, 1 - 1e-12):  # else there is no arc, or none to speak of
            angle = math.acos(cosine)
            return (
                math.sin((1 - alpha) * angle) / math.sin(angle),
                math.sin(alpha * angle) / math.sin(angle),
            )
    return (1 - alpha, alpha)


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(float(a[block].double() @ b[block].double()) for block in _blocks(len(a)))


def _blocks(length: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, length, BLOCK))


def _of_one_shape(tensors: Sequence[torch.Tensor], rows: str) -> list[torch.Tensor]:
    """Tensors with as many rows as the largest: those that one lacks are zeros, or another's."""
    largest = max(tensors, key=lambda tensor: tuple(tensor.shape))
    same = []
    for tensor in tensors:
        if tensor.shape != largest.shape:
            lacking = largest[len(tensor) :]
            tensor = torch.cat([tensor, torch.zeros_like(lacking) if rows == "zeros" else lacking])
        same.append(tensor)
    return same


def _state_type(folder: Path, stored: str) -> None:
    """Let the config say in which type the weights are stored; the file may be a link to a parent's."""
    config = read_config(folder)
    config.pop("torch_dtype", None)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"dtype": stored}, indent=2) + "\n", "utf-8")
