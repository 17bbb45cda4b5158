"""Dimension-wise correlation and linear CKA of the two main pairs: backbones over embedders."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import SubFigure

from realign.artifacts.command import Job
from realign.drawing.panels import Drawing, empty, heatmap, long_matrix, mat, publish, sheet, shorten, stack
from realign.results.plates import LAYERS_SHOWN, LINEAR, Plate, measures_of
from realign.results.tidy import TITLES, Tidy, matrix, readings
from realign.study.description import PairEntry
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_3",
        "Dimension-wise correlation and linear CKA, backbones over embedders",
        "Dimension-wise correlation (left) and linear CKA (right) of an SFT pair and an RLVR pair; backbones "
        f"above, their embedders below. {LAYERS_SHOWN}",
        category="Representations",
        needs=(measures_of("backbone", "embedder", families=LINEAR),),
        pairs="main",
        corpora="main",
    ),
)

STAGES = (("backbone", "LLM"), ("embedder", "Embedder"))
MEASURES = ("correlation", "cka")
KINDS = ("sft", "rlvr")


def run(job: Job[DrawPlate]) -> None:
    """Draw the figure."""
    publish(job, draw)


def _names(pair: PairEntry, labels: dict[str, str], emb: bool) -> tuple[str, str]:
    suffix = "-Emb" if emb else ""
    left, right = (shorten(labels.get(n, n) + suffix, 25) for n in (pair.left, pair.right))
    return left, right


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A block for each measure: two rows (LLM, embedding model), two columns (SFT, RLVR)."""
    figure = sheet(asked.style, 104)
    drawn = []
    for block, measure in zip(figure.subfigures(1, 2, squeeze=False)[0], MEASURES, strict=True):
        drawn += _block(block, measure, asked, tidy)
    return Drawing(figure, stack(drawn))


def _block(block: SubFigure, measure: str, asked: DrawPlate, tidy: Tidy) -> list[pd.DataFrame]:
    pairs: dict[str, PairEntry] = {p.kind: p for p in asked.pairs}
    corpus = asked.view.corpora[0] if asked.view.corpora else ""
    block.suptitle(TITLES[measure], fontweight="bold", fontsize="medium")
    grid = block.subplots(2, 2, squeeze=False)
    drawn, image = [], None
    for (row, column), axes in np.ndenumerate(grid):
        (stage, title), kind = STAGES[row], KINDS[column]
        pair = pairs.get(kind)
        axes.set_title(f"{title}, {asked.kinds[kind].label}", fontsize="small", pad=3)
        if pair is None:
            empty(axes, f"no {asked.kinds[kind].label} pair in this study")
            continue
        left, right = _names(pair, asked.labels, stage == "embedder")
        frame = readings(
            tidy.measures, measure, asked.view.preset, pair=pair.name, stage=stage, corpus=corpus
        )
        values = matrix(frame)
        if not values.size or np.isnan(values).all():
            empty(axes, f"{measure} of {left} vs {right}")
            continue
        image = heatmap(axes, values, asked.style, asked.view.heat_from, most=6)
        axes.set_xlabel(right, labelpad=2, fontsize="x-small")
        axes.set_ylabel(left, labelpad=2, fontsize="x-small")
        if asked.kinds[kind].shaded:
            mat(axes)
        drawn.append(
            long_matrix(values, measure=measure, pair=pair.name, kind=kind, stage=stage, corpus=corpus)
        )
    if image is not None:
        block.colorbar(image, ax=list(grid.ravel()), shrink=0.8, pad=0.02, aspect=35, extend="min")
    block.supxlabel("Layer of the post-trained model (E: embedding output)", fontsize="small")
    block.supylabel("Layer of the base model", fontsize="small")
    return drawn
