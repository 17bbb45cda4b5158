"""`realign text stats FILE`: what a file of pairs or of texts amounts to, and what is wrong with it."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from realign.artifacts.command import UserError
from realign.study.data import Dataset
from realign.text.datasets import checked_rows
from realign.text.forms import form_of
from realign.text.records import read_records
from realign.text.stats import PairStats, text_stats
from realign.text.streams import LineError


def main(words: Sequence[str]) -> int:
    """Run the tool; the exit code is 1 when a line of the file cannot be used."""
    parser = argparse.ArgumentParser(
        "realign text", description="Look into files of pairs and texts.", allow_abbrev=False
    )
    below = parser.add_subparsers(dest="what", required=True)
    stats = below.add_parser("stats", help="counts, lengths, repetitions and faulty lines, as JSON")
    stats.add_argument("file", type=Path, help="pairs or texts: JSONL (plain, gzip, zstd) or Parquet")
    stats.add_argument("--invalid", choices=("error", "drop"), default="error",
                       help="stop at a faulty line (default), or count them")  # fmt: skip
    stats.add_argument("--text", default="text", help="the column with the text (default: text)")
    given = parser.parse_args(words)
    print(json.dumps(describe(given.file, given.invalid, given.text), ensure_ascii=False, indent=1))
    return 0


def describe(path: Path, invalid: str, column: str) -> dict[str, object]:
    """The statistics of a file, which is taken for pairs when its first row has a query."""
    first = next(iter(read_records(path)), None)
    if first is None:
        raise UserError(f"{path} is empty")
    row = first[1]
    if isinstance(row, LineError) or "query" in row or form_of(path) != "pairs":
        counted = PairStats()
        as_dataset = Dataset.model_validate({"file": str(path), "invalid": invalid})
        for pair in checked_rows(path, as_dataset, counted.dropped):
            counted.add(pair)
        return counted.dump()
    return text_stats(_texts(path, column))


def _texts(path: Path, column: str) -> Iterator[dict[str, str]]:
    for number, row in read_records(path):
        if isinstance(row, LineError):
            raise row
        if not isinstance(row.get(column), str):
            raise LineError(path, number, f"no text in '{column}'; name the column with --text")
        yield {"text": row[column], **({"label": row["label"]} if "label" in row else {})}
