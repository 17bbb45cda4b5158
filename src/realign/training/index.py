"""Training data as places on a disk: where each usable row begins, and nothing of its text.

A file is read once, whole, to check its rows and to note their places; afterwards any row is one
read away, so a training over millions of rows starts at once and holds none of them in memory.
"""

import json
import os
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.recfunctions import unstructured_to_structured

from realign.artifacts.command import UserError
from realign.text.pairs import PairRow, parse_pair
from realign.text.streams import GZIP, ZSTD, LineError, first_bytes, open_packed

ROW = np.dtype([("offset", "<i8"), ("size", "<i4"), ("instruction", "<i4"), ("negatives", "<i4")])


def build_index(source: Path, folder: Path) -> None:
    """Read a pairs file and write its index; a packed file is unpacked beside it.

    Rows with an empty query are left out and counted. Any other fault is a `LineError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = array("q")  # four numbers a row: as Python objects, millions of them would fill the memory
    instructions: dict[str, int] = {}
    refused: Counter[str] = Counter()
    unpacked = folder / "rows.jsonl" if first_bytes(source).startswith((GZIP, ZSTD)) else None
    with open_packed(source) as stream:
        copy = unpacked.open("wb") if unpacked else None
        offset = 0
        for number, line in enumerate(stream, 1):
            if copy:
                copy.write(line)
            place, offset = offset, offset + len(line)
            if line.isspace():
                continue
            if (row := _parse(source, number, line, refused)) is not None:
                instruction = instructions.setdefault(row.instruction, len(instructions))
                rows.extend((place, len(line), instruction, len(row.negatives)))
        if copy:
            copy.close()
    numbers = np.frombuffer(rows, np.int64).reshape(-1, 4)
    np.save(folder / "rows.npy", unstructured_to_structured(numbers, ROW))
    facts = {"instructions": list(instructions), "refused": dict(refused)}
    (folder / "facts.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")


def _parse(source: Path, number: int, line: bytes, refused: Counter[str]) -> PairRow | None:
    try:
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
        if _is_blank(value.get("query")):
            refused["empty query"] += 1
            return None
        return parse_pair(value)
    except (ValueError, RecursionError) as error:
        raise LineError(source, number, str(error)) from None


def _is_blank(query: Any) -> bool:
    text = query[1] if isinstance(query, list) and len(query) == 2 else query
    return isinstance(text, str) and not text.strip()


@dataclass
class PairFile:
    """The usable rows of one dataset, read one at a time."""

    name: str
    path: Path
    rows: np.ndarray
    refused: Counter[str]

    @classmethod
    def open(
        cls,
        name: str,
        source: Path,
        folder: Path,
        negatives: int,
        prompt_tokens: Mapping[str, int] | None = None,
        max_tokens: int = 0,
        max_characters: int = 0,
    ) -> "PairFile":
        """The rows that a recipe can use: with a negative if it asks for some, and a prompt that fits.

        `prompt_tokens` gives the length of each instruction; those that leave no room for text within
        `max_tokens`, or exceed `max_characters`, take their rows with them.
        """
        rows = np.load(folder / "rows.npy", mmap_mode="r")
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        refused = Counter(facts["refused"])
        keep = np.ones(len(rows), bool)
        if negatives:
            lacking = rows["negatives"] == 0
            refused["no negative"] += int(lacking.sum())
            keep &= ~lacking
        if prompt_tokens is not None:
            long = [
                i
                for i, text in enumerate(facts["instructions"])
                if prompt_tokens[text] >= max_tokens or len(text) > max_characters
            ]
            over = keep & np.isin(rows["instruction"], long)
            refused["over-long instruction"] += int(over.sum())
            keep &= ~over
        unpacked = folder / "rows.jsonl"
        usable = np.asarray(rows[keep])
        if not len(usable):
            raise UserError(f"{source} holds no usable row ({dict(refused) or 'it is empty'})")
        return cls(name, unpacked if unpacked.exists() else source, usable, +refused)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> PairRow:
        row = self.rows[position]
        handle = os.open(self.path, os.O_RDONLY)
        try:
            line = os.pread(handle, int(row["size"]), int(row["offset"]))
        finally:
            os.close(handle)
        return parse_pair(json.loads(line))


def instructions_of(folder: Path) -> list[str]:
    """The distinct instructions of an indexed file."""
    return json.loads((folder / "facts.json").read_text(encoding="utf-8"))["instructions"]


@dataclass(frozen=True)
class Source:
    """One dataset: its name, its pairs file and where its index lies."""

    name: str
    path: Path
    index: Path


def describe_sources(sources: Sequence[Source]) -> list[dict[str, str]]:
    """Sources as a worker's spec carries them."""
    return [{"name": s.name, "path": str(s.path), "index": str(s.index)} for s in sources]


def read_sources(described: Sequence[Mapping[str, str]]) -> list[Source]:
    """Sources from a worker's spec."""
    return [Source(d["name"], Path(d["path"]), Path(d["index"])) for d in described]
