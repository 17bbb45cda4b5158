"""The models of the study and the roads between them; a drawing without data."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch

from realign.drawing.panels import Drawing, publishing, sheet, shorten
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import Plate
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_1",
        "Models and the roads between them",
        "Base and post-trained backbones, the embedders that contrastive training (CL) makes of both, and "
        "what the paper expects of their representations: alike after RLVR, different after SFT. A drawing; "
        "no data.",
        category="The question",
        pairs="main",
    ),
)

BOX = (22.0, 9.0)
# role → where its backbone stands; its embedder stands below
PLACES = {"sft": 17.0, "base": 50.0, "rlvr": 83.0}
# kind → how far its points are turned in the drawing, and what the paper expects
BRANCHES = {"sft": (0.9, "representations differ"), "rlvr": (0.06, "representations alike")}


def draw(asked: DrawPlate, _tidy: Tidy, _: list[Path]) -> Drawing:
    """The base and, on either side, a branch for each kind of post-training in the study; embedders below."""
    figure = sheet(asked.style, 92)
    axes = figure.subplots()
    axes.set(xlim=(0, 100), ylim=(0, 51), aspect="equal")
    axes.set_axis_off()
    pairs = {p.kind: p for p in asked.pairs if p.kind in BRANCHES}
    backbone, embedder = 41, 13
    for role in ("base", *pairs):
        x, colour = PLACES[role], role_colour(asked.style, role)
        name = "M base" if role == "base" else f"M {asked.kinds[role].label}"
        _box(axes, x, backbone, name, colour)
        _box(axes, x, embedder, f"{name} Emb", colour, light=True)
        _arrow(axes, (x, 36), (x, 18), "CL", "k", right=role != "sft")
    for kind, pair in pairs.items():
        outward = np.sign(PLACES[kind] - PLACES["base"])
        start, end = PLACES["base"] + 11.5 * outward, PLACES[kind] - 11.5 * outward
        _arrow(
            axes, (start, backbone), (end, backbone), asked.kinds[kind].label, role_colour(asked.style, kind)
        )
        turned, expected = BRANCHES[kind]
        _clouds(axes, PLACES["base"] + 16.5 * outward, 27, turned, asked, kind, expected)
        left, right = (shorten(asked.labels.get(n, n), 30) for n in (pair.left, pair.right))
        axes.text(
            PLACES["base"] + 28 * outward,
            49,
            f"{left} → {right}",
            ha="center",
            fontsize="x-small",
            color=FAINT,
        )
    axes.text(
        50, 3, "CL: the same contrastive training for both sides of a pair",
        ha="center", fontsize="small", color=FAINT,
    )  # fmt: skip
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


run = publishing(draw)
