"""The models of the study and the roads between them; a drawing without data."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch

from realign.artifacts.command import Job
from realign.drawing.panels import Drawing, publish, sheet, shorten
from realign.drawing.style import FAINT, role_colour
from realign.results.plates import Plate
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_1",
        "Models and the roads between them",
        "Base and post-trained backbones, the embedders that contrastive training (CL) makes of both, and "
        "what is expected of their representations (z): alike after RLVR, unlike after SFT. A drawing; "
        "no data.",
        category="The question",
        pairs="main",
    ),
)

BOX = (22.0, 9.0)
# role → where its backbone stands; its embedder stands below
PLACES = {"sft": 17.0, "base": 50.0, "rlvr": 83.0}


def run(job: Job[DrawPlate]) -> None:
    """Draw the figure."""
    publish(job, draw)


def draw(asked: DrawPlate, _tidy: Tidy, _: list[Path]) -> Drawing:
    """Base in the middle, SFT to the left, RLVR to the right; embedders below."""
    figure = sheet(asked.style, 92)
    axes = figure.subplots()
    axes.set(xlim=(0, 100), ylim=(0, 51), aspect="equal")
    axes.set_axis_off()
    pairs = {p.kind: p for p in asked.pairs}
    names = {"base": "M base"} | {k: f"M {asked.kinds[k].label}" for k in ("sft", "rlvr")}
    under: dict[str, str] = {}
    for kind in ("sft", "rlvr"):
        if kind in pairs:
            left, right = (asked.labels.get(n, n) for n in (pairs[kind].left, pairs[kind].right))
            under[kind] = f"{shorten(left, 30)} → {shorten(right, 30)}"
    for role, x in PLACES.items():
        colour = role_colour(asked.style, role)
        _box(axes, x, 41, names[role], colour)
        _box(axes, x, 13, f"{names[role]} Emb", colour, light=True)
        _arrow(axes, (x, 36), (x, 18), "CL", "k", right=role != "sft")
    _arrow(axes, (38.5, 41), (28.5, 41), "SFT", role_colour(asked.style, "sft"))
    _arrow(axes, (61.5, 41), (71.5, 41), "RLVR", role_colour(asked.style, "rlvr"))
    _clouds(axes, 33.5, 27, 0.9, asked, "sft", "z unlike")
    _clouds(axes, 66.5, 27, 0.06, asked, "rlvr", "z alike")
    for kind, x in (("sft", 22), ("rlvr", 78)):
        axes.text(
            x,
            49,
            under.get(kind, f"no {asked.kinds[kind].label} pair in this study"),
            ha="center",
            fontsize="x-small",
            color=FAINT,
        )
    axes.text(
        50,
        3,
        "CL: the same contrastive training for both sides of a pair",
        ha="center",
        fontsize="small",
        color=FAINT,
    )
    data = pd.DataFrame([{"kind": k, "pair": p.name} for k, p in pairs.items()], columns=["kind", "pair"])
    return Drawing(figure, data)


def _box(axes: Axes, x: float, y: float, text: str, colour: str, light: bool = False) -> None:
    width, height = BOX
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=2",
            facecolor="white" if light else colour, edgecolor=colour, linewidth=1.4,
        )
    )  # fmt: skip
    axes.text(x, y, text, ha="center", va="center", color="black" if light else "white", fontweight="bold")


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str,
    colour: str,
    right: bool = True,
) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=colour, linewidth=1.4)
    )
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    if start[0] == end[0]:
        axes.text(
            middle[0] + (1.5 if right else -1.5),
            middle[1],
            text,
            va="center",
            ha="left" if right else "right",
        )
    else:
        axes.text(middle[0], middle[1] + 1.6, text, ha="center", fontsize="small")


def _clouds(axes: Axes, x: float, y: float, turned: float, asked: DrawPlate, kind: str, text: str) -> None:
    """Two clouds of points: the base's, and the other's turned and stretched by `turned`."""
    random = np.random.default_rng(7)
    points = random.standard_normal((60, 2)).clip(-1.9, 1.9) * (2.6, 1.1)
    angle = 1.35 * turned
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    other = (
        points @ rotation * (1 - 0.35 * turned, 1 - 0.05 * turned) + random.standard_normal((60, 2)) * 0.25
    )
    axes.add_patch(
        Ellipse((x, y), 17, 12, facecolor="#F6F6F6", edgecolor=FAINT, linestyle=":", linewidth=0.8)
    )
    for cloud, role, mark in ((points, "base", "o"), (other, kind, "^")):
        colour = role_colour(asked.style, role)
        axes.plot(*(cloud + np.array([x, y])).T, mark, color=colour, markersize=2, alpha=0.8)
    axes.text(x, y - 8.3, text, ha="center", fontsize="small")
