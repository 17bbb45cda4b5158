"""Heatmaps of one measure over all layers of all pairs, corpus by corpus."""

import math
from pathlib import Path

import numpy as np

from realign.artifacts.command import Job
from realign.drawing.panels import (
    Drawing,
    columns_for,
    empty,
    heat_scale,
    heatmap,
    long_matrix,
    mat,
    measured_blocks,
    pair_label,
    publish,
    sheet,
    stack,
    stacked,
)
from realign.measures import MEASURES
from realign.results.plates import LAYERS_SHOWN, LINEAR, Plate, measures_of, named
from realign.results.tidy import Tidy, matrix, pick, readings
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_6",
        "Dimension-wise correlation of all backbone pairs",
        f"Mean correlation of equal dimensions, every pair and corpus. {LAYERS_SHOWN} SFT pairs are shaded.",
        category="Representations",
        needs=(measures_of("backbone", families=LINEAR),),
        measure="correlation",
        stage="backbone",
    ),
    Plate(
        "figure_7",
        "Dimension-wise correlation of all embedding pairs",
        f"Mean correlation of equal dimensions, every pair and corpus. {LAYERS_SHOWN} SFT pairs are shaded.",
        category="Representations",
        needs=(measures_of("embedder", families=LINEAR),),
        measure="correlation",
        stage="embedder",
    ),
    Plate(
        "figure_8",
        "Linear CKA of all backbone pairs",
        f"Linear CKA of every pair of layers, every pair and corpus. {LAYERS_SHOWN} SFT pairs are shaded.",
        category="Representations",
        needs=(measures_of("backbone", families=LINEAR),),
        measure="cka",
        stage="backbone",
    ),
    Plate(
        "figure_9",
        "Linear CKA of all embedding pairs",
        f"Linear CKA of every pair of layers, every pair and corpus. {LAYERS_SHOWN} SFT pairs are shaded.",
        category="Representations",
        needs=(measures_of("embedder", families=LINEAR),),
        measure="cka",
        stage="embedder",
    ),
)


def run(job: Job[DrawPlate]) -> None:
    """Draw the figure."""
    publish(job, draw)


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """One block of panels for each corpus, one panel for each pair."""
    plate = named(PLATES, asked.plate)
    emb = plate.stage == "embedder"
    columns = columns_for(len(asked.pairs))
    rows = max(math.ceil(len(asked.pairs) / columns), 1)
    found = readings(tidy.measures, plate.measure, asked.view.preset, stage=plate.stage)
    blocks = measured_blocks(asked.view.corpora, found)
    figure = sheet(asked.style, 12 + len(blocks) * (6 + rows * 46))
    drawn, image = [], None
    for part, corpus in zip(stacked(figure, len(blocks)), blocks, strict=True):
        grid = part.subplots(rows, columns, squeeze=False).ravel()
        part.suptitle(asked.labels.get(corpus, corpus) or "no corpus", fontweight="bold", fontsize="medium")
        for axes in grid[len(asked.pairs) :]:
            axes.set_axis_off()
        for axes, pair in zip(grid, asked.pairs, strict=False):
            axes.set_title(pair_label(pair, asked, emb), fontsize="small", pad=3)
            values = matrix(pick(found, pair=pair.name, corpus=corpus))
            if not values.size or np.isnan(values).all():
                empty(axes, f"{plate.measure} of this pair on {corpus or 'any corpus'}")
                continue
            image = heatmap(axes, values, asked.style, asked.view.heat_from, most=6)
            if asked.kinds[pair.kind].shaded:
                mat(axes)
            drawn.append(
                long_matrix(
                    values,
                    measure=plate.measure,
                    pair=pair.name,
                    kind=pair.kind,
                    stage=plate.stage,
                    corpus=corpus,
                )
            )
        if image is not None:
            heat_scale(image, part, grid, shrink=0.85, pad=0.01, aspect=30).set_label(
                MEASURES[plate.measure].title
            )
        part.supxlabel("Layer of the post-trained model (E: embedding output)", fontsize="small")
        part.supylabel("Layer of the base model", fontsize="small")
    return Drawing(figure, stack(drawn))
