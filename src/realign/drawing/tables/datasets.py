"""The training data: pairs in each data set, before and after mining, beside the published sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Needs, Plate
from realign.results.published import read_reference
from realign.results.tidy import Tidy, mining_wide
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_7",
        "Training data",
        "Pairs of each data set, and the recipes that train on it. Mining counts pairs, so a set that trains "
        "as it comes has no count.",
        category="Data",
        needs=(Needs("mining"),),
        pairs="none",
        references=("datasets",),
        facts=("datasets",),
    ),
)

COLUMNS = (
    Column("dataset", "Data set"),
    Column("recipes", "Trains"),
    Column("pairs_in", "Pairs given", ",.0f"),
    Column("pairs_out", "Pairs kept", ",.0f"),
    Column("negatives", "Negatives per pair", ".2f"),
    Column("paper", "Paper", ",.0f", optional=True),
    Column("difference", "Kept minus paper's", "+,.0f", optional=True),
)


def _plain(name: str) -> str:
    """A data set's name to compare by: the authors' released rows are the paper's own sets."""
    return "".join(c for c in name.lower().removesuffix("-released") if c.isalnum())


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each data set, and their sum."""
    published = read_reference(references, "datasets") if asked.view.paper else None
    sizes = (
        {_plain(n): float(v) for n, v in published[["dataset", "value"]].to_numpy()}
        if published is not None
        else {}
    )
    rows: list[dict[str, Any]] = []
    counted = mining_wide(tidy.mining)
    about = asked.facts.get("datasets", {})
    for name in about or counted.index:
        found = counted.loc[name] if name in counted.index else pd.Series(dtype=float)
        kept = float(found.get("pairs_out", np.nan))
        paper = sizes.get(_plain(name), np.nan)
        rows.append({
            "dataset": name, "recipes": ", ".join(about.get(name, {}).get("recipes", ())),
            "pairs_in": found.get("pairs_in", np.nan), "pairs_out": kept,
            "negatives": found.get("kept", np.nan) / kept if kept else np.nan,
            "paper": paper, "difference": kept - paper,
        })  # fmt: skip
    if len(rows) > 1:
        total = {k: float(np.nansum([r[k] for r in rows])) for k in ("pairs_in", "pairs_out")}
        rows.append({"dataset": "All", **total, "negatives": np.nan, "paper": np.nan})
    note = f"The paper's sets hold {sum(sizes.values()):,.0f} pairs in all." if sizes else ""
    return Table(COLUMNS, rows, [note] if note else [])


run = publishing(make, PLATES)
