"""Heatmaps of one measure over all layers of all pairs, corpus by corpus."""

from pathlib import Path

from realign.drawing.panels import (
    Drawing,
    blocks_by_corpus,
    heat_scale,
    heatmap,
    long_matrix,
    mat,
    publishing,
    stack,
)
from realign.measures.table import MEASURES
from realign.plates.plate import LAYERS_SHOWN, LINEAR, Plate, measures_of, named
from realign.results.tidy import Tidy, matrix, readings
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


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """One block of panels for each corpus, one panel for each pair."""
    plate = named(PLATES, asked.plate)
    found = readings(tidy.measures, plate.measure, asked.view.preset, stage=plate.stage)
    figure, blocks = blocks_by_corpus(asked, found, plate.stage == "embedder", above=6, panel=46)
    drawn = []
    for block in blocks:
        for axes, pair, rows in block.panels:
            values = matrix(rows)
            image = heatmap(axes, values, asked.style, asked.view.heat_from, most=6)
            if asked.kinds[pair.kind].shaded:
                mat(axes)
            about = {"pair": pair.name, "kind": pair.kind, "stage": plate.stage, "corpus": block.corpus}
            drawn.append(long_matrix(values, measure=plate.measure, **about))
        bar = heat_scale(image, block.part, block.axes, shrink=0.85, pad=0.01, aspect=30)
        bar.set_label(MEASURES[plate.measure].title)
        block.part.supxlabel("Layer of the post-trained model (E: embedding output)", fontsize="small")
        block.part.supylabel("Layer of the base model", fontsize="small")
    return Drawing(figure, stack(drawn))


run = publishing(draw)
