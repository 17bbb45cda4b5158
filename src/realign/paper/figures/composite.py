"""Dimension-wise correlation and linear CKA of the two main pairs: backbones over embedders."""

from pathlib import Path

import numpy as np

from realign.artifacts.command import Job
from realign.paper.panels import Drawing, empty, heatmap, long_matrix, mat, publish, sheet, shorten, stack
from realign.paper.plan import PlateJob
from realign.paper.tidy import TITLES, Tidy, matrix, readings
from realign.study.description import PairEntry

STAGES = (("backbone", "LLM"), ("embedder", "Embedding model"))
MEASURES = ("correlation", "cka")
KINDS = ("sft", "rlvr")


def run(job: Job[PlateJob]) -> None:
    """Draw the figure."""
    publish(job, draw)


def _names(pair: PairEntry, labels: dict[str, str], emb: bool) -> tuple[str, str]:
    suffix = "-Emb" if emb else ""
    left, right = (shorten(labels.get(n, n) + suffix, 24) for n in (pair.left, pair.right))
    return left, right


def draw(asked: PlateJob, tidy: Tidy, _: list[Path]) -> Drawing:
    """Two rows (LLM, embedding model) by four columns (measure × kind of pair)."""
    pairs = {p.kind: p for p in asked.pairs}
    corpus = asked.view.corpora[0] if asked.view.corpora else ""
    figure = sheet(asked.style, 98)
    grid = figure.subplots(2, 4, squeeze=False)
    drawn, image = [], None
    for row, (stage, title) in enumerate(STAGES):
        for column, (measure, kind) in enumerate((m, k) for m in MEASURES for k in KINDS):
            axes, pair = grid[row][column], pairs.get(kind)
            if row == 0:
                axes.set_title(f"{TITLES[measure]}\n{kind.upper()} pair", pad=4)
            if pair is None:
                empty(axes, f"no {kind.upper()} pair in this study")
                continue
            frame = readings(
                tidy.measures, measure, asked.view.preset, pair=pair.name, stage=stage, corpus=corpus
            )
            left, right = _names(pair, asked.labels, stage == "embedder")
            values = matrix(frame)
            if not values.size or np.isnan(values).all():
                empty(axes, f"{measure} of {left} vs {right}")
                continue
            image = heatmap(axes, values, asked.style, asked.view.heat_from, most=6)
            axes.set_xlabel(right, labelpad=2, fontsize="small")
            axes.set_ylabel(left, labelpad=2, fontsize="small")
            if kind == "sft":
                mat(axes)
            drawn.append(
                long_matrix(values, measure=measure, pair=pair.name, kind=kind, stage=stage, corpus=corpus)
            )
        grid[row][0].annotate(
            title, (-0.42, 0.5), xycoords="axes fraction", rotation=90, ha="center", va="center",
            fontweight="bold",
        )  # fmt: skip
    if image is not None:
        bar = figure.colorbar(image, ax=grid, shrink=0.8, pad=0.01, aspect=30, extend="min")
        bar.set_label("mean correlation, or CKA")
    figure.supxlabel("Layer of the post-trained model", fontsize="medium")
    return Drawing(figure, stack(drawn))
