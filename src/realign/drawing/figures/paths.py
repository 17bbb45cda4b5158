"""Post-training as a path: every number of a series' backbones, along the run and by what it changed."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from realign.drawing.panels import Drawing, band, empty, panel_grid, publishing, sheet
from realign.drawing.style import role_colour
from realign.plates.plate import Needs, Plate, measures_of
from realign.results.along import TITLES, along
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_paths",
        "Along post-training",
        "Similarity to the start of each series, the update of its weights, and scores, against the place on "
        "its axis: the step of a run, or the alpha of a merge. Shading is the 95 % interval.",
        category="Paths",
        needs=(
            measures_of("backbone", families=("linear", "neighbours", "weights")),
            Needs("backbones", required=False),
            Needs("scores", pooled=True, required=False),
        ),
        pairs="series",
        corpora="main",
        facts=("series",),
    ),
    Plate(
        "figure_dose",
        "What an equal change of the weights does",
        "The same numbers against the relative norm of the update of the weights since the start, so that "
        "kinds of post-training are seen side by side at equal dose. Shading is the 95 % interval.",
        category="Paths",
        needs=(
            measures_of("backbone", families=("weights",)),
            measures_of("backbone", families=("linear", "neighbours")),
            Needs("backbones", required=False),
            Needs("scores", pooled=True, required=False),
        ),
        pairs="series",
        corpora="main",
        facts=("series",),
    ),
)

AXES = {"step": "Step of post-training", "alpha": "α of the merge", "moved": "Relative norm of the update"}
MARKS = ("o", "s", "^", "X", "v", "P")


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A block for each axis, a panel for each quantity, a line for each series."""
    data = along(asked, tidy)
    dose = asked.plate == "figure_dose"
    data = data.assign(x=data["moved"] if dose else data["place"], by="moved" if dose else data["axis"])
    data = data[data["x"].notna() & ~((data["quantity"] == "update_norm") & dose)]
    data = data[data.groupby(["by", "quantity"])["x"].transform("nunique") > 1]  # a single place is no path
    blocks = {by: rows for by in AXES if len(rows := data[data["by"] == by])}
    shown = {by: [q for q in TITLES if q in set(rows["quantity"])] for by, rows in blocks.items()}
    heights = [16 + 44 * -(-len(quantities) // 4) for quantities in shown.values()]
    figure = sheet(asked.style, sum(heights) or 60)
    if not blocks:
        empty(figure.subplots(), "any backbone along a series")
        return Drawing(figure, data.drop(columns=["x", "by"]))
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    names = list(data["series"].unique())
    for part, (by, rows) in zip(parts, blocks.items(), strict=True):
        for axes, quantity in zip(panel_grid(part, len(shown[by])), shown[by], strict=True):
            axes.set_title(TITLES[quantity], fontsize="small")
            for name, own in rows[rows["quantity"] == quantity].groupby("series", sort=False):
                _line(axes, own.sort_values("place"), MARKS[names.index(name) % 6], asked)
        part.supxlabel(AXES[by], fontsize="small")
    handles = [
        Line2D([], [], color=role_colour(asked.style, kind), marker=MARKS[names.index(name) % 6], label=name)
        for name, kind in data[["series", "kind"]].drop_duplicates().itertuples(index=False)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4), fontsize="small")
    return Drawing(figure, data.drop(columns=["x", "by"]))


def _line(axes: Axes, rows: pd.DataFrame, mark: str, asked: DrawPlate) -> None:
    colour = role_colour(asked.style, rows["kind"].iloc[0])
    band(axes, rows["x"], rows["ci_low"], rows["ci_high"], colour)
    axes.plot(rows["x"], rows["value"], color=colour, marker=mark)


run = publishing(draw)
