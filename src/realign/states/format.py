"""The HDF5 file of hidden states: what it is called inside, and how shards become one.

`/states` has the shape (layers, rows, width), chunked layer by layer. A row is a token, or in a
pooled file a text: its `token_ids` then hold a checksum of the text's token ids and its `position`
the number of its tokens, so two pooled files are compared by the same rule as two token files.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from realign.artifacts.disk import check_room
from realign.artifacts.hashing import canonical_json
from realign.states.plan import Corpus, Plan
from realign.states.shards import STORED, shard_folder

FORMAT = "realign-states"
VERSION = 1
CHUNK_BYTES = 1 << 22


def write_states(
    path: Path,
    plan: Plan,
    corpus: Corpus,
    scratch: Path,
    layers: Sequence[str],
    width: int,
    attributes: Mapping[str, Any],
    pooled: bool,
) -> None:
    """Join the shards into one file, of tokens or of pooled texts, in the order of the corpus."""
    rows = plan.texts if pooled else plan.rows
    storage = "float32" if pooled else str(attributes["storage"])
    kind = STORED[storage]
    check_room(path, len(layers) * rows * width * kind.itemsize + (1 << 20) + 64 * rows)
    with h5py.File(path, "w", rdcc_nbytes=4 * CHUNK_BYTES) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        for name, value in attributes.items():
            file.attrs[name] = value if isinstance(value, str | int | float) else canonical_json(value)
        file.attrs["storage"] = storage
        file.attrs["level"] = "text" if pooled else "token"
        file.attrs["layer_names"] = list(layers)
        chunk = (1, max(1, min(rows, CHUNK_BYTES // (width * kind.itemsize))), width)
        states = file.create_dataset(
            "states", (len(layers), rows, width), kind, chunks=chunk if rows else None
        )
        if storage == "bfloat16":
            states.attrs["dtype"] = "bfloat16"  # kept as its 16 bits
        for layer in range(len(layers)):
            for shard in range(plan.shards):
                part = _part(plan, shard, pooled)
                if part.stop > part.start:
                    name = "pooled.npy" if pooled else "tokens.npy"
                    held = np.load(shard_folder(scratch, shard) / name, mmap_mode="r")
                    states[layer, part] = held[layer]
        _describe_rows(file, plan, corpus, pooled)


def _part(plan: Plan, shard: int, pooled: bool) -> slice:
    texts = plan.shard(shard)
    return slice(texts.start, texts.stop) if pooled else plan.shard_rows(shard)


def _describe_rows(file: h5py.File, plan: Plan, corpus: Corpus, pooled: bool) -> None:
    counts = np.diff(plan.text_bounds)
    if pooled:
        sums = [zlib.crc32(plan.ids_of(text).astype("<i4").tobytes()) for text in range(plan.texts)]
        file["token_ids"] = np.array(sums, dtype=np.int64)
        file["text_index"] = np.arange(plan.texts, dtype=np.int32)
        file["position"] = counts.astype(np.int32)
        file["text_offsets"] = np.arange(plan.texts + 1, dtype=np.int64)
    else:
        places = plan.kept_places()
        file["token_ids"] = plan.token_ids[places]
        file["offsets"] = plan.offsets[places]
        file["text_index"] = plan.text_index().astype(np.int32)
        file["position"] = plan.kept.astype(np.int32)
        file["text_offsets"] = plan.kept_bounds.astype(np.int64)
    text = h5py.string_dtype()
    file["text_tokens"] = counts.astype(np.int32)
    file.create_dataset("text_ids", data=corpus.ids, dtype=text)
    if corpus.labels:
        file.create_dataset("labels", data=corpus.labels, dtype=text)
