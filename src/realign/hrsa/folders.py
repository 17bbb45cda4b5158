"""Model folders read tensor by tensor: which tensors several models share, and rows of each.

Nothing is loaded but the rows that are asked for. Whatever cannot be compared is named with its reason.
"""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open

from realign.artifacts.command import UserError

log = logging.getLogger(__name__)

# By which words in its name a tensor's kind is known, within a layer and outside; others are "other".
NAMED_INSIDE = {"norm": r"norm|\bln_", "attention": "attn|attention", "mlp": "mlp|ffn|feed_forward|expert"}
NAMED_OUTSIDE = {"norm": r"norm|\bln_", "head": "head", "embedding": "embed|wte|wpe"}
HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"
COMPARABLE = ("F64", "F32", "F16", "BF16")  # stored types that hold weights as they are
_WRAPPERS = re.compile(r"^(?:(?:model|transformer|language_model|gpt_neox)\.)+")
_IN_LAYER = re.compile(r"^(?:layers|h|blocks)\.(\d+)\.(.+)$")


class Place(NamedTuple):
    """Where a tensor lies: the file, its name there, its shape and its stored type."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


class LeftOut(NamedTuple):
    """A tensor that is not compared, or not all of it: its name, the reason, and how many weights."""

    name: str
    why: str
    size: int


@dataclass(frozen=True)
class Shared:
    """A tensor that all of the folders hold, as far as they all do."""

    name: str
    shape: tuple[int, ...]

    @property
    def layer(self) -> int | None:
        """The layer of hidden states that it leads to: block 0 leads to 1, the embedding is 0."""
        found = _IN_LAYER.match(self.name)
        return int(found[1]) + 1 if found else 0 if self.kind == "embedding" else None

    @property
    def part(self) -> str:
        """Its name within its layer."""
        found = _IN_LAYER.match(self.name)
        return found[2] if found else self.name

    @property
    def kind(self) -> str:
        """What it is for, by its name: attention, mlp, norm, embedding, head or other."""
        inside = bool(_IN_LAYER.match(self.name))
        kinds = (NAMED_INSIDE if inside else NAMED_OUTSIDE).items()
        return next((kind for kind, word in kinds if re.search(word, self.part.lower())), "other")


class Folder:
    """A model's folder: where each tensor lies. Names are the bare decoder's, as embedders have them."""

    def __init__(self, path: Path):
        self.path = path
        if not path.is_dir():
            raise UserError(f"{path} is no folder of a model")

    @cached_property
    def places(self) -> dict[str, Place]:
        """Every tensor by its name without the wrapper's prefix; of tied weights the head too."""
        found = {}
        for file in self._files():
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  # it has no iterator
                    part = opened.get_slice(name)
                    place = Place(file, name, tuple(part.get_shape()), part.get_dtype())
                    found[_WRAPPERS.sub("", name)] = place
        return found

    def place(self, name: str) -> Place | None:
        """Where a tensor lies; a head that is tied to the embedding lies there."""
        if name == HEAD and name not in self.places and self._tied:
            return self.places.get(EMBEDDING)
        return self.places.get(name)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Some rows of a tensor, all of them finite.

        The file is closed at once, so that no more of it stays in memory.
        """
        place = self.place(name)
        assert place is not None
        with safe_open(place.file, framework="pt") as opened:
            if place.shape:
                found = opened.get_slice(place.name)[start:stop]
            else:
                found = opened.get_tensor(place.name).reshape(1)
        for block in blocks(found.shape):  # since the check makes copies
            if not found[block].isfinite().all():
                raise UserError(f"{self.path} has weights that are NaN or infinite in {place.name}")
        return found

    def _files(self) -> list[Path]:
        files = sorted(f for f in self.path.glob("*.safetensors") if not f.name.startswith("adapter_"))
        for index in self.path.glob("*.safetensors.index.json"):
            named = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            if lost := sorted(named - {file.name for file in files}):
                raise UserError(f"{index} names {lost[0]}, which is not there")
            files = [self.path / name for name in sorted(named)]
        if files:
            return files
        if (self.path / "adapter_config.json").is_file():
            raise UserError(
                f"{self.path} holds an adapter and not the weights that it makes; merge it first "
                "(`merge_and_unload` of peft) and compare the merged folder"
            )
        raise UserError(f"{self.path} has no weights in safetensors files")

    @cached_property
    def _tied(self) -> bool:
        config = self.path / "config.json"
        return config.is_file() and bool(json.loads(config.read_text("utf-8")).get("tie_word_embeddings"))


def share(folders: Sequence[Folder]) -> tuple[list[Shared], list[LeftOut]]:
    """The tensors that all folders hold, in the first one's order, and what is left out for which reason.

    Of tensors that differ in their first dimension alone, as embeddings of a resized vocabulary do, the
    common rows are compared.
    """
    shared, left_out = [], []
    for name in dict.fromkeys(name for folder in folders for name in folder.places):
        places = [folder.place(name) for folder in folders]
        there = [place for place in places if place is not None]
        shapes = {place.shape for place in there}
        common = tuple(map(min, zip(*shapes, strict=False)))
        strange = [p.dtype for p in there if p.dtype not in COMPARABLE]
        if len(there) < len(folders):
            why = f"missing in {folders[places.index(None)].path}"
        elif strange:
            why = f"stored as {strange[0]}, which is no floating-point weight"
        elif len({(len(shape), shape[1:]) for shape in shapes}) > 1:
            why = f"of different shapes: {', '.join(map(str, sorted(shapes)))}"
        else:
            shared.append(Shared(name, common or (1,)))
            if len(shapes) > 1:
                most = max(shapes)
                why = f"rows from {common[0]} on, which only one model of {most[0]} rows has"
                left_out.append(LeftOut(name, why, prod(most) - prod(common)))
            continue
        left_out.append(LeftOut(name, why, max(map(prod, shapes))))
    if not shared:
        log.warning("%s have no tensor in common", " and ".join(str(folder.path) for folder in folders))
    return shared, left_out


def blocks(shape: Sequence[int], numbers: int = 2**23) -> Iterator[slice]:
    """Slices of a tensor's rows that hold about so many numbers each."""
    step = max(1, numbers // max(1, prod(shape[1:])))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))
