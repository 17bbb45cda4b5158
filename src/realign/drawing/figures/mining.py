"""Scores of positives and mined negatives by data set, and what became of the candidates."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from realign.drawing.panels import Drawing, empty, publishing, sheet, stack
from realign.drawing.style import role_colour
from realign.plates.plate import Needs, Plate
from realign.results.tidy import Tidy, mining_wide
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_mining",
        "Scores of mined negatives",
        "Scores of positives and of kept negatives, by data set: median, middle half and 5th to 95th "
        "percentile; beside them, what became of the candidates.",
        category="Data",
        needs=(Needs("mining"),),
        pairs="none",
    ),
)

LABELS = {"spare": "good, not needed", "short": "good, their row dropped"}
PERCENTS = (5, 25, 50, 75, 95)
SIDES = (("positive_score", "positives", "base"), ("negative_score", "kept negatives", "control"))


def fates(statistics: pd.Series) -> pd.Series:
    """What became of the candidates: kept, good but not needed, or refused and why, as shares."""
    names = [s for s in statistics.index if s in ("kept", "spare", "short") or s.startswith("refused_")]
    if any(s.startswith("refused_") and s.endswith("_margin") for s in names):
        names = [s for s in names if s != "refused_margin"]  # the sum of the margins is among them
    found = statistics[names]
    return found / found.sum() if found.sum() else found


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """Left: quantiles of the scores. Right: shares of kept and refused candidates."""
    table = mining_wide(tidy.mining)
    names = list(table.index)
    figure = sheet(asked.style, 34 + 8 * max(len(names), 1))
    scores, counts = figure.subplots(1, 2, sharey=True)
    scores.set(title="Similarity to the query (teacher)")
    counts.set(title="What became of the candidates")
    if not names:
        empty(scores, "mined data sets")
        empty(counts, "mined data sets")
        return Drawing(figure, stack([]))
    for offset, (side, label, role) in zip((-0.18, 0.18), SIDES, strict=True):
        columns = [f"{side}_p{p:02d}" for p in PERCENTS]
        if not set(columns) <= set(table):
            continue
        colour = role_colour(asked.style, role)
        for place, row in enumerate(table[columns].to_numpy()):
            scores.plot([row[0], row[4]], [place + offset] * 2, color=colour, linewidth=0.8)
            scores.plot(
                [row[1], row[3]], [place + offset] * 2, color=colour, linewidth=4, solid_capstyle="butt"
            )
            scores.plot(row[2], place + offset, "|", color="white", markersize=6)
        scores.plot([], [], color=colour, linewidth=4, label=label)
    _stacked(counts, table, asked)
    scores.set_ylim(len(names) - 0.4, -0.6)
    scores.set_yticks(range(len(names)), names)
    for axes in (scores, counts):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return Drawing(figure, stack([tidy.mining[["dataset", "statistic", "value"]]]))


def _stacked(axes: Axes, table: pd.DataFrame, asked: DrawPlate) -> None:
    shares = table.apply(fates, axis=1).fillna(0)
    shares = shares.loc[:, shares.max() > 0]
    left = np.zeros(len(shares))
    greys = ("#7F7F7F", "#A9A9A9", "#C9C9C9", "#E3E3E3", "#F2F2F2")
    hatches = ("", "////", "....", "xxxx", "----", "oooo")
    for index, column in enumerate(sorted(shares, key=lambda c: (c != "kept", c != "spare", c))):
        colour = role_colour(asked.style, "base") if column == "kept" else greys[(index - 1) % len(greys)]
        axes.barh(
            range(len(shares)), shares[column], left=left, height=0.7, color=colour, edgecolor="white",
            linewidth=0.4, hatch=hatches[index % len(hatches)],
            label=LABELS.get(column, column.replace("refused_", "refused, ").replace("_", " ")),
        )  # fmt: skip
        left += shares[column].to_numpy()
    axes.set_xlim(0, 1)


run = publishing(draw)
