"""One shard: some texts through the model, and their states in a folder that appears when it is whole.

Processes share the shards of a plan without talking: each takes every n-th one that is not there
yet. A killed job leaves whole shards and perhaps one unfinished folder, which is begun again.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realign.artifacts.command import UserError
from realign.artifacts.disk import open_array
from realign.embedder.pooling import pool
from realign.embedder.tokens import Rows, by_token_budget, collate
from realign.states.capture import layer_names, tapped
from realign.states.plan import Plan
from realign.study.states import Extract

log = logging.getLogger(__name__)

STORED: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),  # its 16 bits
}
# States copied from a GPU wait here until they are written, so that the GPU need not wait for disks.
PENDING_BYTES = 1 << 28


def shard_folder(scratch: Path, index: int) -> Path:
    """Where a whole shard lies."""
    return scratch / f"shard-{index:06d}"


class ShardWriter:
    """Runs the texts of shards through a model and writes what is kept of them."""

    def __init__(self, model: Any, plan: Plan, settings: Extract, scratch: Path):
        self.model, self.plan, self.settings, self.scratch = model, plan, settings, scratch
        self.layers = len(layer_names(model.config.num_hidden_layers, settings.before_norm))
        self.width = int(model.config.hidden_size)

    def write(self, index: int, told: Callable[[int], None] = lambda tokens: None) -> None:
        """Make one shard, unless it is there."""
        place = shard_folder(self.scratch, index)
        if place.is_dir():
            return
        beside = place.with_name(f".{place.name}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        texts, rows = self.plan.shard(index), self.plan.shard_rows(index)
        kind = STORED[self.settings.storage]
        tokens = _array(beside / "tokens.npy", (self.layers, rows.stop - rows.start, self.width), kind)
        pooled = _array(beside / "pooled.npy", (self.layers, len(texts), self.width), np.dtype(np.float32))
        ids = [self.plan.ids_of(text).tolist() for text in texts]
        for batch in by_token_budget([len(row) for row in ids], self.settings.hardware.token_budget):
            self._run(
                [ids[i] for i in batch], [texts[i] for i in batch], texts.start, rows.start, tokens, pooled
            )
            told(sum(len(ids[i]) for i in batch))
        for array in (tokens, pooled):
            if isinstance(array, np.memmap):
                array.flush()
        beside.rename(place)

    def _run(
        self,
        ids: list[list[int]],
        texts: list[int],
        first_text: int,
        first_row: int,
        tokens: np.ndarray,
        pooled: np.ndarray,
    ) -> None:
        """One batch: its kept rows go to their places in the shard, layer by layer."""
        batch = collate(Rows(ids, [0] * len(ids)), 0).to(self.model.device)
        length = batch.input_ids.shape[1]
        kept = [self.plan.kept_of(text) for text in texts]
        flat = torch.from_numpy(
            np.concatenate([k.astype(np.int64) + i * length for i, k in enumerate(kept)])
        ).to(self.model.device)
        bounds = self.plan.kept_bounds
        rows = np.concatenate([np.arange(bounds[t], bounds[t + 1]) for t in texts]) - first_row
        places = np.array(texts) - first_text
        drain = _Drain(self)

        def sink(layer: int, states: Tensor) -> None:
            if len(rows):
                drain.add(tokens, layer, rows, states.reshape(-1, self.width)[flat], self.settings.storage)
            means = pool(states, batch.attention_mask, batch.prompt_lengths, self.settings.pooling)
            drain.add(pooled, layer, places, means, "float32")

        with tapped(self.model, sink, self.settings.before_norm) as forward:
            given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            forward(**given)
        drain.empty()


class _Drain:
    """States on their way from the device to the shard; those of a CPU go at once."""

    def __init__(self, writer: ShardWriter):
        self._writer = writer
        self._pending: list[tuple[np.ndarray, int, np.ndarray, Tensor, str]] = []
        self._bytes = 0

    def add(self, target: np.ndarray, layer: int, rows: np.ndarray, states: Tensor, storage: str) -> None:
        narrow = states.to(getattr(torch, storage))
        if narrow.device.type == "cpu":
            self._put(target, layer, rows, narrow, storage)
            return
        copy = torch.empty(narrow.shape, dtype=narrow.dtype, pin_memory=True)
        copy.copy_(narrow, non_blocking=True)
        self._pending.append((target, layer, rows, copy, storage))
        self._bytes += copy.numel() * copy.element_size()
        if self._bytes > PENDING_BYTES:
            self.empty()

    def empty(self) -> None:
        """Write what waits, once the device has delivered it."""
        if self._pending:
            torch.cuda.synchronize()
        for entry in self._pending:
            self._put(*entry)
        self._pending, self._bytes = [], 0

    def _put(self, target: np.ndarray, layer: int, rows: np.ndarray, states: Tensor, storage: str) -> None:
        if not bool(torch.isfinite(states).all()):
            raise UserError(_not_finite(self._writer, layer, storage))
        if storage == "bfloat16":
            states = states.view(torch.int16)
        target[layer, rows] = states.numpy().view(target.dtype)


def _not_finite(writer: ShardWriter, layer: int, storage: str) -> str:
    settings = writer.settings
    advice = (
        "float16 holds nothing above 65504: store float32 or bfloat16"
        if storage == "float16"
        else f"the model may need another precision than {settings.compute}"
    )
    where = f"{settings.model_name}, corpus {settings.corpus_name}, layer {layer}"
    return f"{where}: states that are not finite; {advice}"


def _array(path: Path, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """An array that lies in a file; an empty one cannot be mapped and is written as it is."""
    if 0 in shape:
        np.save(path, np.empty(shape, kind))
        return np.empty(shape, kind)
    return open_array(path, kind, shape)
