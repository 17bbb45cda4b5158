"""Dimension-wise correlation and linear CKA of the two main pairs: backbones over embedders."""

from pathlib import Path

import numpy as np

from realign.drawing.panels import (
    Drawing,
    empty,
    heat_scale,
    heatmap,
    long_matrix,
    mat,
    publishing,
    sheet,
    shorten,
    stack,
)
from realign.measures.table import MEASURES
from realign.plates.plate import LAYERS_SHOWN, LINEAR, Plate, measures_of
from realign.results.tidy import Tidy, matrix, pick, readings
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
SHOWN = ("correlation", "cka")
KINDS = ("sft", "rlvr")


def _names(pair: PairEntry, labels: dict[str, str], emb: bool) -> tuple[str, str]:
    suffix = "-Emb" if emb else ""
    left, right = (shorten(labels.get(n, n) + suffix, 25) for n in (pair.left, pair.right))
    return left, right


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A block for each measure: rows are stages (LLM, embedding model), columns kinds (SFT, RLVR)."""
    pairs = {p.kind: p for p in asked.pairs if p.kind in KINDS}
    corpus = asked.view.corpora[0] if asked.view.corpora else ""
    rows = pick(tidy.measures, pair=[p.name for p in pairs.values()], corpus=corpus)
    kinds = [k for k in KINDS if k in pairs] or ["rlvr"]
    stages = [s for s in STAGES if s[0] in set(rows["stage"])] or [STAGES[0]]
    figure = sheet(asked.style, 14 + 45 * len(stages))
    drawn = []
    for block, measure in zip(figure.subfigures(1, 2, squeeze=False)[0], SHOWN, strict=True):
        block.suptitle(MEASURES[measure].title, fontweight="bold", fontsize="medium")
        grid, image = block.subplots(len(stages), len(kinds), squeeze=False), None
        for (row, column), axes in np.ndenumerate(grid):
            (stage, title), kind = stages[row], kinds[column]
            axes.set_title(f"{title}, {asked.kinds[kind].label}", fontsize="small", pad=3)
            pair = pairs.get(kind)
            name = pair.name if pair else ""
            values = matrix(readings(rows, measure, asked.view.preset, pair=name, stage=stage))
            if pair is None or not values.size or np.isnan(values).all():
                empty(axes, f"{measure} of {name or 'any pair'}")
                continue
            left, right = _names(pair, asked.labels, stage == "embedder")
            image = heatmap(axes, values, asked.style, asked.view.heat_from, most=6)
            axes.set_xlabel(right, labelpad=2, fontsize="x-small")
            axes.set_ylabel(left, labelpad=2, fontsize="x-small")
            if asked.kinds[kind].shaded:
                mat(axes)
            drawn.append(
                long_matrix(values, measure=measure, pair=name, kind=kind, stage=stage, corpus=corpus)
            )
        if image is not None:
            heat_scale(image, block, grid.ravel(), shrink=0.8, pad=0.02, aspect=35)
        block.supxlabel("Layer of the post-trained model (E: embedding output)", fontsize="small")
        block.supylabel("Layer of the base model", fontsize="small")
    return Drawing(figure, stack(drawn))


run = publishing(draw)
