"""Neighbourhood overlap layer by layer, a panel for each pair and corpus, a line for each k."""

import math
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from realign.artifacts.command import Job
from realign.drawing.panels import (
    Drawing,
    band,
    columns_for,
    empty,
    layer_ticks,
    measured_blocks,
    pair_label,
    publish,
    shade,
    sheet,
    stack,
    stacked,
)
from realign.drawing.style import role_colour
from realign.results.plates import NEAR, Plate, measures_of, named
from realign.results.tidy import Tidy, by_layer, readings
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_10",
        "Neighbourhood overlap of all backbone pairs",
        "Mean overlap (Jaccard) of the k nearest neighbours of each token, layer by layer; E is the "
        "embedding output. SFT pairs are shaded.",
        category="Representations",
        needs=(measures_of("backbone", families=NEAR),),
        stage="backbone",
    ),
    Plate(
        "figure_11",
        "Neighbourhood overlap of all embedding pairs",
        "Mean overlap (Jaccard) of the k nearest neighbours of each token, layer by layer; E is the "
        "embedding output. SFT pairs are shaded.",
        category="Representations",
        needs=(measures_of("embedder", families=NEAR),),
        stage="embedder",
    ),
)

LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def run(job: Job[DrawPlate]) -> None:
    """Draw the figure."""
    publish(job, draw)


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """One block of panels for each corpus, one panel for each pair."""
    plate = named(PLATES, asked.plate)
    emb = plate.stage == "embedder"
    columns = columns_for(len(asked.pairs))
    rows = max(math.ceil(len(asked.pairs) / columns), 1)
    overlap = readings(tidy.measures, "knn_overlap", asked.view.preset, stage=plate.stage)
    blocks = measured_blocks(asked.view.corpora, overlap)
    figure = sheet(asked.style, 14 + len(blocks) * (8 + rows * 38))
    measured = sorted({int(k) for k in overlap["k"].dropna()})
    sizes = [k for k in asked.view.neighbours if k in measured] or measured
    drawn = []
    for part, corpus in zip(stacked(figure, len(blocks)), blocks, strict=True):
        grid = part.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        part.suptitle(asked.labels.get(corpus, corpus) or "no corpus", fontweight="bold", fontsize="medium")
        for axes in grid[len(asked.pairs) :]:
            axes.set_axis_off()
        for axes, pair in zip(grid, asked.pairs, strict=False):
            axes.set_title(pair_label(pair, asked, emb), fontsize="small", pad=3)
            shade(axes, pair, asked)
            frame = overlap[(overlap["pair"] == pair.name) & (overlap["corpus"] == corpus)]
            if frame.empty:
                empty(axes, f"overlap of this pair on {corpus or 'any corpus'}")
                continue
            for index, k in enumerate(sizes):
                layers = by_layer(frame[frame["k"] == k])
                if layers.empty:
                    continue
                colour = role_colour(asked.style, pair.kind)
                band(axes, layers["layer"], layers["ci_low"], layers["ci_high"], colour)
                axes.plot(
                    layers["layer"], layers["value"], LINES[index % len(LINES)], color=colour,
                    marker=MARKS[index % len(MARKS)], markevery=max(1, len(layers) // 8), markersize=2.5,
                )  # fmt: skip
                drawn.append(
                    layers.assign(pair=pair.name, kind=pair.kind, corpus=corpus, stage=plate.stage, k=k)
                )
            axes.set_ylim(0, 1.02)
            axes.set_xticks(*layer_ticks(int(frame["layer_left"].max()) + 1))
        part.supxlabel("Layer (E: embedding output)", fontsize="small")
        part.supylabel("Mean overlap", fontsize="small")
    _legend(figure, sizes, asked)
    return Drawing(figure, stack(drawn))


def _legend(figure: Figure, sizes: list[int], asked: DrawPlate) -> None:
    handles = [
        Line2D(
            [],
            [],
            linestyle=LINES[i % len(LINES)],
            marker=MARKS[i % len(MARKS)],
            color=asked.style.palette.base,
            label=f"k = {k}",
        )
        for i, k in enumerate(sizes)
    ]
    kinds = dict.fromkeys(p.kind for p in asked.pairs)
    handles += [
        Line2D([], [], linewidth=4, color=role_colour(asked.style, k), label=asked.kinds[k].label)
        for k in kinds
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
