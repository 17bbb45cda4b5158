"""The paper's published numbers, kept as data, and which of a study's pairs they belong to.

A published row names its models by hub id; a pair of the study is the same when both of its sides
come from those ids, or carry their names as labels.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from realign.study.description import PairEntry

FOLDER = Path(__file__).parent / "reference"


def reference_files(names: Iterable[str]) -> list[Path]:
    """The data files of those names."""
    return [FOLDER / f"{name}.csv" for name in names]


def read_reference(paths: Iterable[Path], name: str) -> pd.DataFrame | None:
    """A published table among a job's reference files; nothing where it was not given."""
    found = [p for p in paths if p.stem == name]
    return pd.read_csv(found[0]) if found else None


def _plain(name: str) -> str:
    return name.rsplit("/", 1)[-1].lower().replace("_", "-")


def same_model(published: str, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a published hub id is this backbone's: its label, or its name."""
    return _plain(published) in {_plain(name), _plain(labels.get(name, name))}


def rows_of(table: pd.DataFrame | None, pair: PairEntry, labels: Mapping[str, str]) -> pd.DataFrame | None:
    """The published rows of the same pair."""
    if table is None:
        return None
    same = [
        same_model(left, pair.left, labels) and same_model(right, pair.right, labels)
        for left, right in zip(table["left"], table["right"], strict=True)
    ]
    return table[same]


def published_value(
    table: pd.DataFrame | None, pair: PairEntry, labels: Mapping[str, str], column: str, **equal: object
) -> float:
    """One published number of a pair; NaN where the paper has none."""
    rows = rows_of(table, pair, labels)
    if rows is None:
        return np.nan
    for key, value in equal.items():
        rows = rows[rows[key] == value]
    return float(rows[column].iloc[0]) if len(rows) else np.nan


def published_gain(
    table: pd.DataFrame | None, pair: PairEntry, labels: Mapping[str, str], benchmark: str
) -> float:
    """The published gain of a pair on a benchmark."""
    return published_value(table, pair, labels, "gain", benchmark=benchmark)


def corpus_of(corpus: str) -> str:
    """What the paper calls a corpus of this name: the long reasoning texts, MMLU-Pro, or neither."""
    plain = corpus.lower().replace("_", "-")
    if "mmlu" in plain:
        return "mmlu-pro"
    return "reasoning" if any(word in plain for word in ("cot", "reason", "hard", "livemath")) else ""
