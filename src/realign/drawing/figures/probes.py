"""A linear probe fitted on the base model and read from both models of a pair, split by split."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from realign.artifacts.command import Job
from realign.drawing.panels import (
    Drawing,
    columns_for,
    empty,
    pair_label,
    publish,
    shade,
    sheet,
    stack,
)
from realign.drawing.style import FAINT, INK, minus, role_colour
from realign.results.plates import PROBE, Plate, measures_of, named
from realign.results.probe import SATURATED, SPLITS, probe_accuracy, probed, saturated
from realign.results.tidy import Tidy
from realign.study.description import PairEntry
from realign.study.drawing import DrawPlate

PROBED = (
    "Whiskers are 95 % intervals: train and dev, which the probe was fitted and chosen on, have none, and "
    "that of an accuracy of 1 has no width."
)
PLATES = (
    Plate(
        "figure_4",
        "A linear probe moved from one model to the other",
        "Accuracy of a probe fitted on the base model's vectors and read from both models, by split. "
        f"The difference stands above each pair of bars. {PROBED}",
        category="Representations",
        needs=(measures_of("backbone", "embedder", families=PROBE),),
        pairs="main",
        corpora="any",
        facts=("corpora", "probe"),
    ),
    Plate(
        "figure_12",
        "Linear probes of all backbone pairs",
        "Accuracy of a probe fitted on the base backbone and read from both, by split; SFT pairs are shaded. "
        f"{PROBED}",
        category="Representations",
        needs=(measures_of("backbone", families=PROBE),),
        corpora="any",
        stage="backbone",
        facts=("corpora", "probe"),
    ),
    Plate(
        "figure_13",
        "Linear probes of all embedding pairs",
        "Accuracy of a probe fitted on the base embedder and read from both, by split; SFT pairs are shaded. "
        f"{PROBED}",
        category="Representations",
        needs=(measures_of("embedder", families=PROBE),),
        corpora="any",
        stage="embedder",
        facts=("corpora", "probe"),
    ),
)


def run(job: Job[DrawPlate]) -> None:
    """Draw the figure."""
    publish(job, draw)


def _wanted(asked: DrawPlate, probed_stages: set[str]) -> list[tuple[PairEntry, str]]:
    """A panel for each pair and stage, without stages at which no pair was probed."""
    stage = named(PLATES, asked.plate).stage
    stages = (
        (stage,) if stage else [s for s in ("backbone", "embedder") if s in probed_stages] or ["backbone"]
    )
    order = sorted(asked.pairs, key=lambda p: not asked.kinds[p.kind].shaded) if not stage else asked.pairs
    return [(pair, s) for pair in order for s in stages]


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A panel for each pair and stage; bars by split, the difference above each two."""
    wanted = _wanted(asked, set(tidy.measures["stage"]))
    columns = columns_for(len(wanted))
    rows = max(math.ceil(len(wanted) / columns), 1)
    figure = sheet(asked.style, 16 + rows * 48)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[len(wanted) :]:
        axes.set_axis_off()
    drawn = []
    for axes, (pair, stage) in zip(grid, wanted, strict=False):
        axes.set_title(pair_label(pair, asked, stage == "embedder"), fontsize="small", pad=3)
        shade(axes, pair, asked)
        bars = probe_accuracy(tidy.measures, asked.view, pair.name, stage)
        if bars.empty:
            empty(axes, f"probe of this pair's {stage}s")
            continue
        _bars(axes, bars, pair, asked)
        if saturated(bars):
            axes.set_xlabel(SATURATED, fontsize="small")
        drawn.append(bars.assign(pair=pair.name, kind=pair.kind, stage=stage))
    for row in range(rows):
        grid[row * columns].set_ylabel("Accuracy")
    _legend(figure, asked)
    data = stack(drawn)
    if drawn:
        figure.supxlabel(" ".join(probed(data, asked.facts)), fontsize="x-small", color=FAINT)
    return Drawing(figure, data)


def _bars(axes: Axes, bars: pd.DataFrame, pair: PairEntry, asked: DrawPlate) -> None:
    splits = [s for s in SPLITS if s in set(bars["split"])]
    for offset, side, colour, hatch in (
        (-0.2, "base", role_colour(asked.style, "base"), ""),
        (0.2, "post-trained", role_colour(asked.style, pair.kind), "////"),
    ):
        rows = bars[bars["side"] == side].set_index("split").reindex(splits)
        places = np.arange(len(splits)) + offset
        errors = np.abs(rows[["ci_low", "ci_high"]].to_numpy().T - rows["value"].to_numpy())
        axes.bar(
            places, rows["value"], 0.38, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        for edge, width in (("white", 2.4), (INK, 0.9)):  # a light edge, to be seen on dark bars
            axes.errorbar(places, rows["value"], yerr=errors, fmt="none", ecolor=edge, elinewidth=width)
    wide = bars.pivot(index="split", columns="side", values="value").reindex(splits)
    tops = bars.groupby("split")[["value", "ci_high"]].max().max(axis=1).reindex(splits)
    for x, split in enumerate(splits):
        change = wide.loc[split].get("post-trained", np.nan) - wide.loc[split].get("base", np.nan)
        axes.text(x, tops[split] + 0.02, minus(f"{change:+.3f}"), ha="center", fontsize="x-small")
    axes.set_xticks(range(len(splits)), splits)
    axes.set_ylim(0, 1.15)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])


def _legend(figure: Figure, asked: DrawPlate) -> None:
    kinds = dict.fromkeys(p.kind for p in asked.pairs)
    handles = [Patch(color=role_colour(asked.style, "base"), label="base")]
    handles += [
        Patch(
            facecolor=role_colour(asked.style, k),
            hatch="////",
            edgecolor="white",
            label=f"{asked.kinds[k].label} model",
        )
        for k in kinds
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
