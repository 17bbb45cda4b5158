"""Scores of backbones as they are, beside their embedders: what contrastive training adds."""

from pathlib import Path
from typing import Any

import numpy as np

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Needs, Plate
from realign.results.tidy import Tidy, task_scores
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_before",
        "Backbones without contrastive training, and with",
        "Mean benchmark score of each backbone as it is, pooled like an embedder, of its embedders, and of "
        "random weights where the study has them.",
        category="Benchmarks",
        needs=(Needs("scores", pooled=True),),
    ),
)

COLUMNS = (
    Column("backbone", "Backbone"),
    Column("benchmark", "Benchmark"),
    Column("before", "As it is, pooled", ".2f"),
    Column("after", "Its embedders", ".2f"),
    Column("difference", "Difference", "+.2f"),
)


def make(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Table:
    """One row for each backbone and benchmark, those with random weights too."""
    scores = task_scores(tidy.scores, asked.view.preset)
    means = scores.groupby(["backbone", "benchmark", "recipe"], sort=False, dropna=False)["value"].mean()
    rows: list[dict[str, Any]] = []
    for backbone, benchmark in dict.fromkeys((b, m) for b, m, _ in means.index):
        by_recipe = means[backbone, benchmark]
        before = by_recipe[by_recipe.index.isna()]
        row = {
            "backbone": asked.labels.get(backbone, backbone), "benchmark": benchmark,
            "before": float(before.iloc[0]) if len(before) else np.nan,
            "after": float(by_recipe.get(asked.view.recipe, np.nan)),
        }  # fmt: skip
        rows.append(row | {"difference": row["after"] - row["before"]})
    table = Table(COLUMNS, rows)
    if not table.has("before"):
        table.notes.append("This study evaluates no backbone as it is; `evaluation.backbones: true` does.")
    table.notes.append(
        "Mean over tasks, and over seeds where there are several; pooling and attention are those of the "
        "embedders. A backbone with random weights is what the architecture and the words alone give."
    )
    return table


run = publishing(make, PLATES)
