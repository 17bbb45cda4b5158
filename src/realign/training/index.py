"""Training data as places on a disk: where each usable row begins, and nothing of its text.

A file is read once, whole, to check its rows and to note their places; afterwards any row is one
read away, so a training over millions of rows starts at once and holds none of them in memory.
"""

import contextlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.recfunctions import unstructured_to_structured

from realign.artifacts.command import UserError
from realign.text.forms import form_of, read_rows
from realign.text.pairs import PairRow, parse_pair
from realign.text.streams import GZIP, PARQUET, ZSTD, LineError, dump_line, first_bytes, not_utf8, open_packed

UNPACKED = "rows.jsonl"  # beside an index: the rows of a file that is packed or of another form
ROW = np.dtype([("offset", "<i8"), ("size", "<i4"), ("instruction", "<i4"), ("negatives", "<i4")])


def build_index(source: Path, folder: Path) -> None:
    """Read a pairs file and write its index; a packed file or one of another form is unpacked beside it.

    Rows with an empty query are left out and counted. Any other fault is a `LineError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = array("q")  # four numbers a row: as Python objects, millions of them would fill the memory
    scored, weighted = bytearray(), False
    instructions: dict[str, int] = {}
    refused: Counter[str] = Counter()
    other = source.is_dir() or first_bytes(source) == PARQUET or form_of(source) != "pairs"
    packed = other or first_bytes(source).startswith((GZIP, ZSTD))
    with contextlib.ExitStack() as stack:
        copy = stack.enter_context((folder / UNPACKED).open("wb")) if packed else None
        lines = _converted(source) if other else enumerate(stack.enter_context(open_packed(source)), 1)
        offset = 0
        for number, line in lines:
            if copy:
                copy.write(line)
            place, offset = offset, offset + len(line)
            if line.isspace():
                continue
            if (row := _parse(source, number, line, refused)) is not None:
                instruction = instructions.setdefault(row.instruction, len(instructions))
                rows.extend((place, len(line), instruction, len(row.negatives)))
                scored.append(bool(row.positive_scores))
                weighted |= row.weight != 1
    numbers = np.frombuffer(rows, np.int64).reshape(-1, 4)
    np.save(folder / "rows.npy", unstructured_to_structured(numbers, ROW))
    np.save(folder / "scored.npy", np.frombuffer(scored, bool))
    facts = {"instructions": list(instructions), "refused": dict(refused), "weighted": weighted}
    (folder / "facts.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")


def _converted(source: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that the rows of another form have in the pairs format."""
    for number, row in read_rows(source):
        if isinstance(row, LineError):
            raise row
        yield number, dump_line(row)


def _parse(source: Path, number: int, line: bytes, refused: Counter[str]) -> PairRow | None:
    try:
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
        if _is_blank(value.get("query")):
            refused["empty query"] += 1
            return None
        return parse_pair(value)
    except UnicodeDecodeError as error:
        raise not_utf8(source, number, error) from None
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
    weighted: bool = False  # whether some row has a weight other than 1

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
        scores: bool = False,
    ) -> "PairFile":
        """The rows that a recipe can use: with a negative if it asks for some, and a prompt that fits.

        With `scores`, a row also needs a teacher's scores.

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
        if scores:
            lacking = keep & ~np.load(folder / "scored.npy")
            refused["no scores"] += int(lacking.sum())
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
        unpacked = folder / UNPACKED
        usable = np.asarray(rows[keep])
        if not len(usable):
            raise UserError(f"{source} holds no usable row ({dict(refused) or 'it is empty'})")
        return cls(name, unpacked if unpacked.exists() else source, usable, +refused, facts["weighted"])

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
