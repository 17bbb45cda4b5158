"""What contrastive training leaves of the update between two backbones, layer by layer."""

from pathlib import Path
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from realign.drawing.panels import (
    Drawing,
    columns_for,
    empty,
    layer_ticks,
    pair_label,
    panel_grid,
    publishing,
    shade,
    sheet,
    stack,
)
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import Plate, measures_of
from realign.results.estimates import of_whole
from realign.results.tidy import Tidy, by_layer, pick
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_survival",
        "What contrastive training leaves of the update",
        "The update between two backbones and the difference between the embedders trained from them, as "
        "vectors of weights, layer by layer: how much of the update is left (1: all, 0: nothing) and the "
        "share of the embedders' difference that it explains. Grey: what a change of the seed alone gives. "
        "At the right the whole model with its 95 % interval over layers and seeds. E is the embedding.",
        category="Weights",
        needs=(measures_of("embedder", families=("survival",)),),
        stage="embedder",
    ),
)

LINES: dict[str, tuple[str, Literal["-", "--", ":"], str]] = {  # statistic: words, line, mark
    "coefficient": ("left of the update", "-", "o"),
    "explained": ("share explained", "--", "s"),
    "floor": ("another seed alone", ":", "^"),
}


def draw(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Drawing:
    """A panel for each pair: lines over layers, and the whole model beside them."""
    found = pick(tidy.measures, measure="survival", recipe=asked.view.recipe)
    pairs = [pair for pair in asked.pairs if pair.name in set(found["pair"])]
    figure = sheet(asked.style, 18 + 42 * -(-max(len(pairs), 1) // columns_for(len(pairs))))
    if not pairs:
        empty(figure.subplots(), "embedders of both sides of any pair")
        return Drawing(figure, stack([]))
    drawn = []
    for axes, pair in zip(panel_grid(figure, len(pairs), sharey=True), pairs, strict=True):
        axes.set_title(pair_label(pair, asked, emb=True), fontsize="small", pad=3)
        shade(axes, pair, asked)
        own = found[found["pair"] == pair.name]
        last = int(own["layer_left"].max())
        for level in (0, 1):
            axes.axhline(level, color=FAINT, linewidth=0.6)
        for place, (statistic, (_, line, mark)) in enumerate(LINES.items()):
            colour = FAINT if statistic == "floor" else role_colour(asked.style, pair.kind)
            layers = by_layer(pick(own, statistic=statistic, part=""))
            axes.plot(
                layers["layer"], layers["value"], linestyle=line, marker=mark, markersize=3, color=colour,
                markevery=max(1, len(layers) // 8),
            )  # fmt: skip
            whole = of_whole(own, "survival", statistic)
            at = (last + 1) * (1 + 0.06 * (place + 1))
            axes.plot([at, at], [whole["ci_low"], whole["ci_high"]], color=colour, linewidth=1.2)
            axes.plot(at, whole["value"], mark, color=colour, markersize=4)
            both = pd.concat([layers, pd.DataFrame([whole])], ignore_index=True)
            drawn.append(both.assign(pair=pair.name, statistic=statistic))
        axes.axvline(last + 0.75, color=FAINT, linewidth=0.5, linestyle=":")
        axes.set_xticks(*layer_ticks(last + 1, most=6))
    figure.supxlabel("Layer (E: embedding); right of the line the whole model", fontsize="small")
    _legend(figure)
    return Drawing(figure, stack(drawn))


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], linestyle=line, marker=mark, color=FAINT, label=words)
        for words, line, mark in LINES.values()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize="small")


run = publishing(draw)
