"""Gains on benchmarks with their intervals, the seeds behind them, and the band of equivalence."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from realign.drawing.panels import (
    PUBLISHED,
    Drawing,
    empty,
    pair_label,
    published_mark,
    publishing,
    sheet,
    stack,
)
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import Needs, Plate
from realign.results.gains import gains
from realign.results.published import published_value, read_reference
from realign.results.tidy import Tidy, task_scores
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_gains",
        "Gains on benchmarks, with intervals and the band of equivalence",
        "Mean gain of the post-trained side on each benchmark (points of 100) with its 90 % interval, over "
        "tasks and seeds; the band is the margin of equivalence, small marks are the seeds.",
        category="Benchmarks",
        needs=(Needs("scores"),),
        references=("benchmarks",),
    ),
)

BAND = "#E6E6E6"
COLUMNS = [
    "pair", "kind", "benchmark", "gain", "low_90", "high_90", "tasks", "seeds", "by_seed", "published",
    "difference",
]  # fmt: skip


def gain_rows(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> pd.DataFrame:
    """One row per pair × benchmark: gain, 90 % interval, seeds, and the published gain."""
    scores = task_scores(tidy.scores, asked.view.preset)
    published = read_reference(references, "benchmarks") if asked.view.paper else None
    rows = []
    for pair in (p for p in asked.pairs if p.embed):
        for gain in gains(scores, pair, asked.view.recipe):
            low, high = gain.estimate.interval(0.90)
            paper = published_value(published, pair, asked.known, "gain", benchmark=gain.benchmark)
            rows.append({
                "pair": pair.name, "kind": pair.kind, "benchmark": gain.benchmark,
                "gain": gain.estimate.value, "low_90": low, "high_90": high,
                "tasks": gain.table.shape[0], "seeds": gain.table.shape[1],
                "by_seed": " ".join(f"{x:.4f}" for x in gain.by_seed),
                "published": paper, "difference": gain.estimate.value - paper,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def draw(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Drawing:
    """A panel for each benchmark, a line for each pair."""
    data = gain_rows(asked, tidy, references)
    pairs = [p for p in asked.pairs if p.name in set(data["pair"])]
    benchmarks = list(dict.fromkeys(data["benchmark"])) or [""]
    figure = sheet(asked.style, 32 + 11 * max(len(pairs), 1))
    grid = figure.subplots(1, len(benchmarks), squeeze=False, sharey=True)[0]
    margin = asked.view.margin
    for axes, benchmark in zip(grid, benchmarks, strict=True):
        axes.set_title(benchmark)
        if not benchmark:
            empty(axes, "scores of both sides of any pair")
            continue
        axes.axvspan(-margin, margin, color=BAND, linewidth=0)
        axes.axvline(0, color=FAINT, linewidth=0.7)
        for place, pair in enumerate(pairs):
            for _, row in data[(data["pair"] == pair.name) & (data["benchmark"] == benchmark)].iterrows():
                colour = role_colour(asked.style, pair.kind)
                if np.isfinite(row["low_90"]):
                    axes.plot([row["low_90"], row["high_90"]], [place, place], color=colour, linewidth=2)
                axes.plot(row["gain"], place, "o", color=colour, markersize=5)
                seeds = [float(x) for x in row["by_seed"].split()]
                axes.plot(seeds, [place - 0.25] * len(seeds), "|", color=colour, markersize=5)
                if np.isfinite(row["published"]):
                    axes.plot(row["published"], place + 0.25, **PUBLISHED)
        axes.set_xlabel("Gain (points of 100)")
        axes.set_xlim(*_limits(data[data["benchmark"] == benchmark], margin))
        axes.set_ylim(len(pairs) - 0.5, -0.5)
    grid[0].set_yticks(range(len(pairs)), [pair_label(p, asked) for p in pairs], fontsize="x-small")
    _legend(figure, data, margin)
    return Drawing(figure, stack([data]))


def _legend(figure: Figure, data: pd.DataFrame, margin: float) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker="o", linewidth=2, color=FAINT, label="gain, 90 % interval"),
        Line2D([], [], marker="|", linestyle="", color=FAINT, label="a seed"),
        Patch(color=BAND, label=f"equivalent: ± {margin:g}"),
    ]
    if data["published"].notna().any():
        handles.append(published_mark())
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _limits(rows: pd.DataFrame, margin: float) -> tuple[float, float]:
    values = rows[["gain", "low_90", "high_90", "published"]].to_numpy(float)
    values = values[np.isfinite(values)]
    reach = 1.15 * max(margin * 1.3, float(np.abs(values).max()) if len(values) else 0)
    return (-reach, reach) if len(values) == 0 or np.abs(values).max() < 4 * margin else (
        min(-1.6 * margin, values.min() - 0.1 * reach), max(1.6 * margin, values.max() + 0.1 * reach)
    )  # fmt: skip


run = publishing(draw)
