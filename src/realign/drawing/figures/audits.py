"""How often mined negatives answer their query, by data set, by rank and by margin."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from realign.drawing.panels import Drawing, empty, publishing, sheet, stack
from realign.drawing.style import role_colour
from realign.plates.plate import Needs, Plate
from realign.results.tidy import Tidy, pick
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_audit",
        "False negatives among mined negatives",
        "The share of mined negatives that answer their query, by the judge's labels of a random sample, "
        "with intervals: by data set (hollow: the judge's own share, before its errors are taken out), and "
        "by the candidates' rank and margin.",
        category="Data",
        needs=(Needs("audits"),),
        pairs="none",
    ),
)

BY = (("rank", "Rank in the pool"), ("margin", "Margin to the least positive"))


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """Left: a row a data set. Right: a line a data set over groups by rank, and by margin."""
    table = tidy.audits
    names = list(dict.fromkeys(table["dataset"]))
    figure = sheet(asked.style, 44 + 6 * max(len(names), 1))
    whole, *parts = figure.subplots(1, 3)
    whole.set(title="All", xlabel="% that answer")
    if not names:
        for axes in (whole, *parts):
            empty(axes, "audited data sets")
        return Drawing(figure, stack([]))
    overall = pick(table, by="all")
    _intervals(whole, overall, np.arange(len(names)), role_colour(asked.style, "base"))
    whole.set_yticks(range(len(names)), names)
    whole.set_ylim(len(names) - 0.5, -0.5)
    whole.set_xlim(left=0)
    for axes, (by, label) in zip(parts, BY, strict=True):
        axes.set(title=f"By {by}", xlabel=label, ylabel="% that answer")
        for i, name in enumerate(names):
            rows = pick(table, by=by, dataset=name)
            middle = (rows["least"] + rows["greatest"]) / 2
            shade = str(0.15 + 0.6 * i / max(1, len(names)))
            axes.plot(middle, 100 * rows["value"], "o-", color=shade, markersize=3, linewidth=0.9, label=name)
            axes.vlines(middle, 100 * rows["ci_low"], 100 * rows["ci_high"], color=shade, linewidth=0.6)
        axes.set_ylim(bottom=0)
    if len(names) > 1:
        handles, labels = parts[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    shown = ["dataset", "judge", "by", "least", "greatest", "value", "ci_low", "ci_high", "judged", "n"]
    return Drawing(figure, stack([table[shown]]))


def _intervals(axes: Axes, rows: pd.DataFrame, places: np.ndarray, colour: str) -> None:
    axes.hlines(places, 100 * rows["ci_low"], 100 * rows["ci_high"], color=colour, linewidth=1.2)
    axes.plot(100 * rows["value"], places, "o", color=colour, markersize=4)
    axes.plot(100 * rows["judged"], places, "o", color=colour, markersize=4, markerfacecolor="none")


run = publishing(draw)
