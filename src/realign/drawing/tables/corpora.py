"""The probe corpora: how many texts and tokens were compared, beside the published set."""

from pathlib import Path
from typing import Any

import numpy as np

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import LINEAR, NEAR, Plate, measures_of
from realign.results.published import read_reference
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_11",
        "Probe corpora",
        "Texts and tokens of each corpus, and how often the generator of reasoning texts was right.",
        category="Data",
        needs=(measures_of("backbone", families=(*LINEAR, *NEAR)),),
        references=("corpora",),
        facts=("corpora",),
    ),
)

COLUMNS = (
    Column("corpus", "Corpus"),
    Column("source", "Source"),
    Column("texts", "Texts compared", ",.0f"),
    Column("tokens", "Tokens compared", ",.0f"),
    Column("total", "Generated", ",.0f"),
    Column("valid", "Judged", ",.0f"),
    Column("accuracy", "Right, %", ".2f"),
)


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """This study's corpora, then the published one."""
    sample = tidy.measures[tidy.measures["measure"] == "sample"]
    about: dict[str, Any] = asked.facts.get("corpora", {})
    rows: list[dict[str, Any]] = []
    for corpus in asked.view.corpora:
        own = sample[sample["corpus"] == corpus]
        row: dict[str, Any] = {
            "corpus": asked.labels.get(corpus, corpus),
            "source": str(about.get(corpus, {}).get("source", "this study")),
        }  # fmt: skip
        for statistic in ("texts", "tokens"):
            found = own.loc[own["statistic"] == statistic, "value"]
            row[statistic] = float(found.max()) if len(found) else np.nan
        rows.append(row)
    published = read_reference(references, "corpora") if asked.view.paper else None
    for _, paper in published.iterrows() if published is not None else ():
        level = f", {paper['level']}" if isinstance(paper["level"], str) else ""
        rows.append({
            "corpus": f"{paper['corpus']}{level}", "source": "paper", "total": float(paper["total"]),
            "valid": float(paper["valid"]), "accuracy": float(paper["accuracy"]),
        })  # fmt: skip
    return Table(
        COLUMNS, rows, ["Tokens: the most that a family of measures took. Right: correct over generated."]
    )


run = publishing(make, PLATES)
