"""The three levels of hierarchical representational similarity; a drawing without data."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from realign.drawing.panels import Drawing, publishing, sheet
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import Plate
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_2",
        "Three levels of comparison",
        "Hierarchical representational similarity: each level forgives more transformations of the space "
        "than the one before. A drawing; no data.",
        category="The question",
        pairs="none",
    ),
)

LEVELS = (
    (
        "Representation", "the coordinates themselves", "forgives nothing",
        "dimension-wise correlation\nProcrustes rotation O*",
    ),
    (
        "Geometry", "distances and neighbours", "forgives rotation and scale",
        "linear CKA (global)\nk-NN overlap (local)",
    ),
    (
        "Function", "what can be read out", "forgives what keeps\nthe decision boundary",
        "linear probe, fitted on one\nmodel, read from the other",
    ),
)  # fmt: skip


def draw(asked: DrawPlate, _tidy: Tidy, _: list[Path]) -> Drawing:
    """Two models' states on the left, the three levels on the right, strictest first."""
    figure = sheet(asked.style, 84)
    axes = figure.subplots()
    axes.set(xlim=(0, 120), ylim=(0, 54), aspect="equal")
    axes.set_axis_off()
    for y, role, name in ((38.0, "base", "X: states of the base"), (14.0, "rlvr", "Y: states of the other")):
        _states(axes, 4, y, role_colour(asked.style, role))
        axes.text(13, y - 8.8, name, ha="center", fontsize="small")
    axes.text(
        13,
        25,
        "same texts, same tokens,\nevery layer",
        ha="center",
        va="center",
        fontsize="x-small",
        color=FAINT,
    )
    axes.add_patch(FancyArrowPatch((26, 26), (33, 26), arrowstyle="-|>", mutation_scale=12, color="k"))
    for row, (level, about, forgives, measures) in enumerate(LEVELS):
        y = 44 - 17.5 * row
        shade = ("#2B3A4E", "#4F6680", "#7C92A8")[row]
        axes.add_patch(
            FancyBboxPatch(
                (35, y - 7), 26, 14, boxstyle="round,pad=0,rounding_size=2", facecolor=shade, edgecolor="none"
            )
        )
        axes.text(
            48, y + 2, level, ha="center", va="center", color="white", fontweight="bold", fontsize="large"
        )
        axes.text(48, y - 3, about, ha="center", va="center", color="white", fontsize="small")
        _toy(axes, 71, y, row, asked)
        axes.text(81, y, measures, va="center", fontsize="small")
        axes.text(119, y - 6.2, forgives, va="bottom", ha="right", fontsize="x-small", color=FAINT)
    return Drawing(figure, pd.DataFrame(LEVELS, columns=["level", "about", "forgives", "measures"]))


def _states(axes: Axes, x: float, y: float, colour: str) -> None:
    random = np.random.default_rng(3)
    for (row, column), value in np.ndenumerate(random.uniform(0.15, 1, (6, 9))):
        axes.fill(
            x + 2 * column + np.array([0, 1.7, 1.7, 0]), y - 6 + 2 * row + np.array([0, 0, 1.7, 1.7]),
            color=colour, alpha=float(value), linewidth=0,
        )  # fmt: skip


def _toy(axes: Axes, x: float, y: float, row: int, asked: DrawPlate) -> None:
    """A small picture of what the level looks at."""
    base, other = role_colour(asked.style, "base"), role_colour(asked.style, "rlvr")
    if row == 0:
        for angle, colour in ((0.0, base), (0.35, other)):
            for turn in (angle, angle + np.pi / 2):
                axes.add_patch(
                    FancyArrowPatch(
                        (x - 3, y - 4), (x - 3 + 8 * np.cos(turn), y - 4 + 8 * np.sin(turn)),
                        arrowstyle="-|>", mutation_scale=7, color=colour, linewidth=1, shrinkA=0, shrinkB=0,
                    )
                )  # fmt: skip
        return
    random = np.random.default_rng(11)
    points = random.standard_normal((12, 2)) * 2.4
    if row == 1:
        distance = np.linalg.norm(points[:, None] - points, axis=-1)
        for index, near in enumerate(np.argsort(distance, 1)[:, 1:3]):
            for other_index in near:
                axes.plot(*(points[[index, other_index]] + (x, y)).T, color="#C0C0C0", linewidth=0.8)
        axes.plot(*(points + np.array([x, y])).T, "o", color=base, markersize=3)
        return
    side = points @ (1, 0.6) > 0
    axes.plot(*(points[side] + (x, y)).T, "o", color=base, markersize=3)
    axes.plot(*(points[~side] + (x, y)).T, "^", color=other, markersize=3)
    axes.plot([x - 3.6, x + 3.6], [y + 6, y - 6], color="k", linewidth=1)


run = publishing(draw)
