"""Every measure of the pairs along contrastive training, from the backbones to the finished embedders."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from realign.drawing.panels import (
    PUBLISHED,
    Drawing,
    band,
    empty,
    pair_label,
    publishing,
    sheet,
    stack,
)
from realign.drawing.style import role_colour
from realign.measures.table import MEASURES
from realign.plates.plate import LINEAR, NEAR, PRINTED, PROBE, Needs, Plate, measures_of
from realign.results.probe import readout_gap, with_probe_corpus
from realign.results.published import as_published, published_measure
from realign.results.tidy import Tidy, summary, usual_k
from realign.study.description import PairEntry
from realign.study.drawing import DrawPlate
from realign.study.figures import View

PLATES = (
    Plate(
        "figure_5",
        "Similarity along contrastive training",
        "Each measure against the step of contrastive training; step 0 is the pair of backbones, the last "
        "step the finished embedders. Shading is the 95 % interval.",
        category="Training",
        needs=(
            measures_of("backbone", "embedder", "checkpoint", families=(*LINEAR, *NEAR, *PROBE)),
            Needs("training", required=False),
        ),
        corpora="main",
        stage="embedder",
        references=PRINTED,
    ),
)

SHOWN = ("correlation", "cka", "procrustes", "knn_overlap", "probe")
MARKS = ("o", "s", "^", "X", "v", "P")
COLUMNS = [
    "pair", "kind", "measure", "k", "stage", "step", "value", "ci_low", "ci_high", "as_published",
    "published", "difference",
]  # fmt: skip


def _steps(measures: pd.DataFrame, pair: str) -> list[tuple[str, float]]:
    """(stage, step) in time: backbones at 0, declared checkpoints, finished embedders at the end."""
    rows = measures[measures["pair"] == pair]
    between = sorted(rows.loc[rows["stage"] == "checkpoint", "step"].dropna().unique())
    stages = set(rows["stage"])
    found = [("backbone", 0.0)] if "backbone" in stages else []
    found += [("checkpoint", float(s)) for s in between]
    return found + ([("embedder", np.nan)] if "embedder" in stages else [])


def _value(
    measures: pd.DataFrame, measure: str, stage: str, step: float, k: int, view: View
) -> dict[str, float]:
    rows = measures[measures["stage"] == stage]
    if stage == "checkpoint":
        rows = rows[rows["step"] == step]
    if measure == "knn_overlap":
        rows = rows[rows["k"] == k]
    read = summary(rows, measure, view.preset, view.first_layer)
    return read | {"as_published": as_published(rows, measure, view.preset)}


def _readout(measures: pd.DataFrame, pair: str, stage: str, step: float, view: View) -> dict[str, float]:
    rows = measures if stage != "checkpoint" else measures[measures["step"] == step]
    gap = readout_gap(rows, view, pair, stage)
    read = {c: float(gap[c].iloc[0]) if len(gap) else np.nan for c in ("value", "ci_low", "ci_high")}
    return read | {"as_published": np.nan}  # the paper prints no probe's accuracy


def trace(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> pd.DataFrame:
    """One row per pair × measure × step; the published number where there is one."""
    rows = []
    near = usual_k(tidy.measures, asked.view.neighbours)
    view = with_probe_corpus(asked.view, tidy.measures)
    given = references if asked.view.paper else []
    main = asked.view.corpora[0] if asked.view.corpora else ""
    for pair in asked.pairs:
        own = tidy.measures[tidy.measures["pair"] == pair.name]
        corpus = own[own["corpus"].isin(asked.view.corpora)]
        for stage, step in _steps(own, pair.name):
            for measure in SHOWN:
                read = (
                    _readout(own, pair.name, stage, step, view)
                    if measure == "probe"
                    else _value(corpus, measure, stage, step, near, asked.view)
                )
                if np.isfinite(read["value"]):
                    k = near if measure == "knn_overlap" else None
                    paper = published_measure(given, pair, asked.known, measure, stage, main, near)
                    rows.append({"pair": pair.name, "kind": pair.kind, "measure": measure, "k": k,
                                 "stage": stage, "step": step, **read, "published": paper,
                                 "difference": read["as_published"] - paper})  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS).astype({"step": float})


def draw(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Drawing:
    """A panel for each measure, a line for each pair that was trained."""
    pairs = asked.pairs
    data = trace(asked, tidy, references)
    end = float(np.nanmax([1.0, data["step"].max(), tidy.training["step"].max()]))
    data["x"] = data["step"].fillna(end)
    stages = data.groupby("measure")["stage"].nunique()
    shown = [m for m in SHOWN if stages.get(m, 0) > 1]
    figure = sheet(asked.style, 105 if len(shown) > 2 else 58)
    grid = figure.subplots(2 if len(shown) > 2 else 1, 3).ravel()
    if not shown:
        empty(grid[0], "any measure at more than one step")
    for axes in grid[max(len(shown), 1) :]:
        axes.set_axis_off()
    for axes, measure in zip(grid, shown, strict=False):
        rows = data[data["measure"] == measure]
        axes.set_title(_title(measure, rows))
        for index, pair in enumerate(pairs):
            _line(axes, rows[rows["pair"] == pair.name], pair, index, asked)
        axes.set_xlim(-0.03 * end, 1.03 * end)
        axes.set_xticks(*_ticks(sorted(rows["x"].unique()), end))
        axes.set_xticks(rows["x"].unique(), minor=True)
        low, high = (-0.5, 0.1) if measure == "probe" else (0, 1.02)
        seen = rows[["value", "ci_low", "ci_high"]]
        axes.set_ylim(min(low, seen.min().min() - 0.05), max(high, seen.max().max() + 0.02))
    figure.supxlabel("Step of contrastive training", fontsize="small")
    handles = [
        Line2D(
            [],
            [],
            color=role_colour(asked.style, p.kind),
            marker=MARKS[i % 6],
            label=pair_label(p, asked),
        )
        for i, p in enumerate(pairs)
    ]
    if data["published"].notna().any():
        handles.append(Line2D([], [], **PUBLISHED | {"marker": "o"}, label="hollow: published"))
    if handles:
        grid[-1].legend(
            handles=handles,
            loc="center left",
            title="Pair",
            alignment="left",
            labelspacing=0.7,
            fontsize="x-small",
        )
    return Drawing(figure, stack([data.drop(columns="x")]))


def _title(measure: str, rows: pd.DataFrame) -> str:
    if measure == "probe":
        return "Probe accuracy, post-trained − base"
    if measure == "knn_overlap" and len(rows):
        return f"k-NN overlap, k = {int(rows['k'].iloc[0])}"
    return MEASURES[measure].title


def _ticks(places: list[float], end: float) -> tuple[list[float], list[str]]:
    kept: list[float] = []
    for place in reversed(places):  # from the end, so that the last step keeps its label
        if not kept or kept[-1] - place > 0.09 * end:
            kept.append(place)
    return kept[::-1], [f"{p:.0f}" for p in kept[::-1]]


def _line(axes: Axes, rows: pd.DataFrame, pair: PairEntry, index: int, asked: DrawPlate) -> None:
    main = pair.name in (asked.view.main_sft, asked.view.main_rlvr)
    colour = role_colour(asked.style, pair.kind)
    band(axes, rows["x"], rows["ci_low"], rows["ci_high"], colour)
    axes.plot(
        rows["x"], rows["value"], marker=MARKS[index % 6], color=colour, linewidth=1.8 if main else 0.9,
        linestyle="-" if main else "--",
    )  # fmt: skip
    told = PUBLISHED | {"marker": MARKS[index % 6], "markersize": 6, "clip_on": False}
    axes.plot(rows["x"], rows["published"], **told)


run = publishing(draw)
