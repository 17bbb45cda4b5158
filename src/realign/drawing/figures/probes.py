"""A linear probe fitted on the base model and read from both models of a pair, split by split."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from realign.drawing.panels import (
    Drawing,
    columns_for,
    empty,
    pair_label,
    panel_grid,
    publishing,
    shade,
    sheet,
    stack,
)
from realign.drawing.style import FAINT, INK, minus, role_colour
from realign.plates.plate import PROBE, Plate, measures_of, named
from realign.results.probe import (
    SATURATED,
    SPLITS,
    probe_accuracy,
    probed,
    saturated,
    untrained_accuracy,
    with_probe_corpus,
)
from realign.results.tidy import Tidy
from realign.study.description import PairEntry
from realign.study.drawing import DrawPlate
from realign.study.figures import View

PROBED = (
    "Whiskers are 95 % intervals: train and dev, which the probe was fitted and chosen on, have none, and "
    "that of an accuracy of 1 has no width."
)
FLOOR = "A line across backbones' bars is the floor: a probe fitted on random weights and read from them."
PLATES = (
    Plate(
        "figure_4",
        "A linear probe moved from one model to the other",
        "Accuracy of a probe fitted on the base model's vectors and read from both models, by split. "
        f"The difference stands above each pair of bars. {FLOOR} {PROBED}",
        category="Representations",
        needs=(measures_of("backbone", "embedder", families=PROBE, controls=True),),
        pairs="main",
        corpora="any",
        facts=("corpora", "probe"),
    ),
    Plate(
        "figure_12",
        "Linear probes of all backbone pairs",
        "Accuracy of a probe fitted on the base backbone and read from both, by split; SFT pairs are shaded. "
        f"{FLOOR} {PROBED}",
        category="Representations",
        needs=(measures_of("backbone", families=PROBE, controls=True),),
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


def _wanted(
    asked: DrawPlate, view: View, measures: pd.DataFrame
) -> list[tuple[PairEntry, str, pd.DataFrame]]:
    """The pairs and stages that were probed, with what the probes found: a panel for each."""
    stage = named(PLATES, asked.plate).stage
    pairs = list(asked.pairs) if stage else sorted(asked.pairs, key=lambda p: not asked.kinds[p.kind].shaded)
    found = [
        (pair, s, probe_accuracy(measures, view, pair.name, s))
        for pair in pairs
        for s in ([stage] if stage else ["backbone", "embedder"])
    ]
    return [panel for panel in found if len(panel[2])]


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A panel for each pair and stage; bars by split, the difference above each two."""
    view = with_probe_corpus(asked.view, tidy.measures)
    wanted = _wanted(asked, view, tidy.measures)
    figure = sheet(asked.style, 16 + 48 * -(-len(wanted) // columns_for(len(wanted))))
    grid = panel_grid(figure, max(len(wanted), 1), sharey=True)
    if not wanted:
        empty(grid[0], "a probe of any pair")
    drawn, floors = [], False
    for axes, (pair, stage, bars) in zip(grid, wanted, strict=False):
        axes.set_title(pair_label(pair, asked, stage == "embedder"), fontsize="small", pad=3)
        shade(axes, pair, asked)
        _bars(axes, bars, pair, asked)
        floor = bars[:0]
        if stage == "backbone":
            floor = untrained_accuracy(tidy.measures, view, pair, asked.untrained)
        _floor(axes, bars, floor)
        floors |= len(floor) > 0
        if saturated(bars):
            axes.set_xlabel(SATURATED, fontsize="small")
        drawn.append(bars.assign(pair=pair.name, kind=pair.kind, stage=stage))
    for axes in grid[:: columns_for(len(grid))]:
        axes.set_ylabel("Accuracy")
    _legend(figure, asked, floors)
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


def _floor(axes: Axes, bars: pd.DataFrame, floor: pd.DataFrame) -> None:
    """A line across the bars of each split: what a probe reads from random weights."""
    splits = [s for s in SPLITS if s in set(bars["split"])]
    for split, value in floor[["split", "value"]].to_numpy():
        place = splits.index(split)
        for colour, width in (("white", 2.6), (INK, 1.1)):  # a light edge, as whiskers have
            axes.plot(
                [place - 0.42, place + 0.42], [value, value], color=colour, linewidth=width, linestyle="-"
            )


def _legend(figure: Figure, asked: DrawPlate, floors: bool) -> None:
    handles: list[Patch | Line2D] = [Patch(color=role_colour(asked.style, "base"), label="base")]
    handles += [
        Patch(
            facecolor=role_colour(asked.style, k), hatch="////", edgecolor="white",
            label=f"{asked.kinds[k].label} model",
        )
        for k in dict.fromkeys(p.kind for p in asked.pairs)
    ]  # fmt: skip
    if floors:
        handles.append(Line2D([], [], color=INK, linewidth=1.1, label="probe of random weights"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


run = publishing(draw)
