"""The paper's published numbers, kept as data, and which of a study's pairs they belong to.

A published row names its models by hub id; a pair of the study is the same when both of its sides
come from those ids, or carry their names.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from realign.results.tidy import summary
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


def same_model(published: str, name: str, known: Mapping[str, str]) -> bool:
    """Whether a published hub id is this backbone's: by its own hub id, else by its label or its name."""
    told = known.get(name, name)
    if "/" in told:  # two owners may give their models one name
        return told.lower() == published.lower()
    return _plain(published) in {_plain(name), _plain(told)}


def rows_of(table: pd.DataFrame | None, pair: PairEntry, known: Mapping[str, str]) -> pd.DataFrame | None:
    """The published rows of the same pair."""
    if table is None:
        return None
    same = [
        same_model(left, pair.left, known) and same_model(right, pair.right, known)
        for left, right in zip(table["left"], table["right"], strict=True)
    ]
    return table[same]


def published_value(
    table: pd.DataFrame | None, pair: PairEntry, known: Mapping[str, str], column: str, /, **equal: object
) -> float:
    """One published number of a pair; NaN where the paper has none."""
    rows = rows_of(table, pair, known)
    if rows is None:
        return np.nan
    for key, value in equal.items():
        rows = rows[rows[key] == value]
    return float(rows[column].iloc[0]) if len(rows) else np.nan


def published_measure(
    references: Iterable[Path], pair: PairEntry, known: Mapping[str, str], measure: str, stage: str,
    corpus: str, k: int = 0,
) -> float:  # fmt: skip
    """The published number of a measure of a pair; the paper prints those of rotations and overlaps only."""
    about = {"stage": stage, "corpus": corpus_of(corpus)}
    if measure == "procrustes":
        table = 12 if stage == "backbone" else 13
        return published_value(
            read_reference(references, "rotation"), pair, known, "value", table=table, **about
        )
    if measure == "knn_overlap":
        return published_value(read_reference(references, "overlap"), pair, known, "value", k=k, **about)
    return np.nan


def as_published(frame: pd.DataFrame, measure: str, preset: str = "") -> float:
    """The study's number counted as the paper counts: its means over layers include the embedding output."""
    return summary(frame, measure, preset, first=0)["value"]


def corpus_of(corpus: str) -> str:
    """What the paper calls a corpus of this name: the long reasoning texts, MMLU-Pro, or neither."""
    plain = corpus.lower().replace("_", "-")
    if "mmlu" in plain:
        return "mmlu-pro"
    return "reasoning" if any(word in plain for word in ("cot", "reason", "hard", "livemath")) else ""
