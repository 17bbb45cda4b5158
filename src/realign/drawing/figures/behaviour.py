"""How far two models' next tokens lie apart: by entropy, by position, and layer by layer."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter

from realign.drawing.panels import Drawing, empty, layer_ticks, pair_label, publishing, shade, sheet, stack
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import Plate, measures_of
from realign.results.controls import random_weights
from realign.results.tidy import Tidy, by_layer, pick
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_behaviour",
        "How far what comes next lies apart, by token and layer",
        "KL divergence between the distributions over the next token of the main pairs' backbones, in nats, "
        "with intervals over texts: by the base's entropy, in bins of equally many tokens from the surest to "
        "the least sure; by the position in the text; and by layer, each read through the final norm and the "
        "head. Solid: base to post-trained; dashed: the reverse; grey and dotted: random weights.",
        category="Behaviour",
        needs=(measures_of("backbone", families=("behaviour",), controls=True),),
        pairs="main",
        corpora="main",
    ),
)
PARTS = {"entropy": "By entropy of the base", "position": "By position (bins)"}
TICKS = [mantissa * 10.0**exponent for exponent in range(-7, 2) for mantissa in (1, 2, 5)]
WAYS = {"left_right": "-", "right_left": "--"}


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A row for each pair: divergence by entropy, by position, and by layer."""
    found = pick(tidy.measures, stage="backbone", measure=("token_kl", "lens_kl"))
    pairs = [pair for pair in asked.pairs if pair.name in set(found["pair"])]
    figure = sheet(asked.style, 16 + 40 * max(len(pairs), 1))
    if not pairs:
        empty(figure.subplots(), "what comes next, of any pair")
        return Drawing(figure, stack([]))
    drawn: list[pd.DataFrame] = []
    for row, pair in zip(figure.subplots(len(pairs), 3, squeeze=False), pairs, strict=True):
        own, floor = pick(found, pair=pair.name), random_weights(found, pair, asked.untrained)
        for axes in row:
            shade(axes, pair, asked)
        colour = role_colour(asked.style, pair.kind)
        for axes, (part, title) in zip(row, PARTS.items(), strict=False):
            axes.set_title(title, fontsize="small", pad=3)
            for way, line in WAYS.items():
                drawn.append(_bins(axes, own, part, way, line, colour).assign(pair=pair.name))
            drawn.append(_bins(axes, floor, part, "left_right", ":", FAINT).assign(pair="random weights"))
        drawn.append(_layers(row[2], own, "-", colour).assign(pair=pair.name))
        drawn.append(_layers(row[2], floor, ":", FAINT).assign(pair="random weights"))
        row[2].set_title("Logit lens, by layer", fontsize="small", pad=3)
        for axes in row:
            axes.set_yscale("log")  # random weights lie far above
            axes.yaxis.set_major_locator(FixedLocator(TICKS))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        row[0].set_ylabel(f"{pair_label(pair, asked)}\nKL (nats)", fontsize="x-small")
    _legend(figure)
    return Drawing(figure, stack(drawn))


def _bins(axes: Axes, found: pd.DataFrame, part: str, way: str, line: str, colour: str) -> pd.DataFrame:
    """A line over bins, with intervals."""
    rows = pick(found, measure="token_kl", statistic=way, part=part).sort_values("k")
    rows = rows[["part", "statistic", "k", "value", "ci_low", "ci_high"]]
    at, value = rows["k"].to_numpy(float) + 1, rows["value"].to_numpy(float)
    reach = np.abs(rows[["ci_low", "ci_high"]].to_numpy(float).T - value)
    axes.errorbar(
        at, value, reach, linestyle=line, marker="o", markersize=3, linewidth=1, capsize=1.5, color=colour
    )
    axes.set_xticks(at if len(at) else axes.get_xticks())
    return rows


def _layers(axes: Axes, found: pd.DataFrame, line: str, colour: str) -> pd.DataFrame:
    """The lens between both models, and its interval as a band."""
    layers = by_layer(pick(found, measure="lens_kl", statistic="between"))
    if len(layers):
        axes.plot(layers["layer"], layers["value"], linestyle=line, color=colour, linewidth=1)
        axes.fill_between(
            layers["layer"].astype(float), layers["ci_low"], layers["ci_high"], color=colour, alpha=0.2
        )
        axes.set_xticks(*layer_ticks(int(layers["layer"].max()) + 1, most=6))
    return layers.assign(part="lens", statistic="between")


def _legend(figure: Figure) -> None:
    looks: tuple[tuple[str, Literal["-", "--", ":"], str], ...] = (
        ("base to post-trained", "-", "black"),
        ("the reverse", "--", "black"),
        ("random weights", ":", FAINT),
    )
    handles = [Line2D([], [], linestyle=line, color=colour, label=label) for label, line, colour in looks]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize="small")


run = publishing(draw)
