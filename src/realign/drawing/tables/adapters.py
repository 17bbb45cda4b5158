"""Mean benchmark scores by recipe: what adapters cost against full training."""

from pathlib import Path
from typing import Any

import numpy as np

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Needs, Plate
from realign.results.published import read_reference, same_model
from realign.results.tidy import Tidy, task_scores
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_6",
        "Full training and adapters",
        "Mean benchmark score by training recipe.",
        category="Benchmarks",
        needs=(Needs("scores", every_recipe=True),),
        references=("adapters",),
        facts=("recipes",),
    ),
)


def _paper(published: Any, backbone: str, known: dict[str, str], benchmark: str, recipe: str) -> float:
    if published is None:
        return np.nan
    rows = published[(published["benchmark"] == benchmark) & (published["recipe"] == recipe)]
    rows = rows[[same_model(b, backbone, known) for b in rows["backbone"]]]
    return float(rows["value"].iloc[0]) if len(rows) else np.nan


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each backbone and benchmark, one column for each recipe."""
    recipes: dict[str, Any] = asked.facts.get("recipes", {})
    published = read_reference(references, "adapters") if asked.view.paper else None
    scores = task_scores(tidy.scores, asked.view.preset)
    means = scores.groupby(["backbone", "benchmark", "recipe"], sort=False)["value"].mean()
    first = next(iter(recipes), "")
    rows: list[dict[str, Any]] = []
    for backbone, benchmark in dict.fromkeys((b, m) for b, m, _ in means.index):
        row: dict[str, Any] = {"backbone": asked.labels.get(backbone, backbone), "benchmark": benchmark}
        for name in recipes:
            row[f"recipe_{name}"] = float(means.get((backbone, benchmark, name), np.nan))
            if name != first:
                row[f"change_{name}"] = row[f"recipe_{name}"] - row[f"recipe_{first}"]
        for kind in ("full", "lora"):
            row[f"paper_{kind}"] = _paper(published, backbone, asked.known, benchmark, kind)
        row["paper_change"] = row["paper_lora"] - row["paper_full"]
        rows.append(row)
    columns = [Column("backbone", "Backbone"), Column("benchmark", "Benchmark")]
    for name, recipe in recipes.items():
        columns.append(Column(f"recipe_{name}", name + (" (adapters)" if recipe.get("lora") else ""), ".2f"))
        if name != first:
            columns.append(Column(f"change_{name}", f"{name} minus {first}", "+.2f"))
    columns += [
        Column("paper_full", "Paper full", ".2f", optional=True),
        Column("paper_lora", "Paper adapters", ".2f", optional=True),
        Column("paper_change", "Paper adapters minus full", "+.2f", optional=True),
    ]
    notes = [] if len(recipes) > 1 else ["This study has one recipe; add one with `lora` to compare."]
    return Table(columns, rows, notes)


run = publishing(make, PLATES)
