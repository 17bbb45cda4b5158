"""Tables as the page shows them: cells of text, each with the number that it sorts by."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from realign.report.templates import plain


class Cell(NamedTuple):
    """What a cell says, and its number if it holds one."""

    text: str
    value: float | None = None

    @property
    def sorts_by(self) -> str | None:
        """The number for the script that sorts; empty for blanks, nothing for words."""
        if self.value is not None and self.value == self.value:
            return f"{self.value:.10g}"
        return "" if self.value is not None or self.text == "–" else None


@dataclass(frozen=True)
class Grid:
    """Heads and rows, with the remarks below them."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    remarks: Sequence[str] = ()

    @property
    def numbers(self) -> list[bool]:
        """Which columns hold numbers: a number in each cell, or none where there could be one."""
        return [
            all(row[i].value is not None or row[i].text in ("–", "") for row in self.rows)
            for i in range(len(self.heads))
        ]


def read_grid(csv: Path, markdown: Path | None) -> Grid:
    """A finished table as people read it; its raw numbers where it has no Markdown."""
    raw = pd.read_csv(csv)
    shown = from_markdown(markdown.read_text(encoding="utf-8")) if markdown else None
    if shown and len(shown.rows) == len(raw):
        return shown
    cells = [
        [Cell(plain(v) if v == v else "", v if isinstance(v, float) else None) for v in row]
        for row in raw.to_numpy()
    ]
    return Grid(list(raw), cells)


def from_markdown(text: str) -> Grid:
    """A table's heads, cells and notes, read back from its Markdown."""
    lines = text.splitlines()
    head, _, *rows = [i for i, line in enumerate(lines) if line.startswith("|")]
    cells = [[Cell(text, leading_number(text)) for text in _split(lines[i])] for i in rows]
    return Grid(_split(lines[head]), cells, [line for line in lines[rows[-1] + 1 :] if line])


def _split(line: str) -> list[str]:
    """A Markdown row's cells; an escaped bar is part of its cell."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def leading_number(cell: str) -> float | None:
    """The number that a cell begins with, so that it sorts by value."""
    first = cell.split(" ", 1)[0].replace(",", "").replace("−", "-")
    try:
        return float(first)
    except ValueError:
        return 0.0 if cell.startswith("< 0.001") else None
