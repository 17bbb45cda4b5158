"""What a score costs: mean benchmark score against what the training computed, with the Pareto line."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, NullLocator

from realign.drawing.panels import Drawing, empty, publishing, sheet, shorten, stack
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import Needs, Plate
from realign.results.tidy import Tidy, task_scores
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_cost",
        "Cost against score",
        "Mean benchmark score against what the training computed (six operations for each parameter and "
        "token); bars reach from the lowest seed to the highest. Where costs differ, a line joins the points "
        "that none beats on both. Where points are many, only those are named.",
        category="Benchmarks",
        needs=(
            Needs("scores"),
            Needs("training"),
            Needs("backbones"),
        ),
        facts=("recipes",),
    ),
)

ALIKE = 1.05  # costs within this factor are the same
FEW = 8  # points that are all named; of more, those that nothing beats


def costs(tidy: Tidy) -> pd.Series:
    """What training each embedder took (backbone, recipe), in floating-point operations.

    Six for each parameter and token, as is usual: two forward and four backward. Unlike hours they
    are the same on all machines.
    """
    tokens = tidy.training[tidy.training["metric"] == "tokens"]
    trained = tokens.groupby(["backbone", "recipe", "seed"])["value"].sum().groupby(level=[0, 1]).mean()
    sizes = tidy.backbones[tidy.backbones["metric"] == "parameters"].groupby("backbone")["value"].max()
    return 6 * trained * sizes.reindex(trained.index.get_level_values("backbone")).to_numpy()


def spread(places: list[float], apart: float = 1.5) -> list[float]:
    """The places that stand far enough apart on a logarithmic axis to be labelled."""
    kept: list[float] = []
    for place in places:
        if not kept or place / kept[-1] >= apart:
            kept.append(place)
    return kept


def pareto(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The indexes that nothing beats on both cost and score, cheapest first."""
    order = np.lexsort((-score, cost))
    best, kept = -np.inf, []
    for index in order:
        if score[index] > best:
            best = score[index]
            kept.append(index)
    return np.array(kept, int)


def _mark(role: str, asked: DrawPlate) -> str:
    return "o" if role == "base" else asked.kinds[role].mark


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A panel for each benchmark, a point for each backbone."""
    made = {p.right: p.kind for p in asked.pairs}
    scores = task_scores(tidy.scores, asked.view.preset)
    scores = scores[scores["recipe"] == asked.view.recipe]
    means = scores.groupby(["benchmark", "backbone", "seed"], sort=False)["value"].mean()
    means = (
        means.groupby(level=[0, 1], sort=False).agg(score="mean", lowest="min", highest="max").reset_index()
    )
    cost = costs(tidy)
    means["cost"] = [float(cost.get((b, asked.view.recipe), np.nan)) for b in means["backbone"]]
    means["role"] = [made.get(b, "base") for b in means["backbone"]]
    means = means.dropna(subset=["cost"])
    benchmarks = list(dict.fromkeys(means["benchmark"])) or [""]
    figure = sheet(asked.style, 78)
    grid = figure.subplots(1, len(benchmarks), squeeze=False)[0]
    for axes, benchmark in zip(grid, benchmarks, strict=True):
        rows = means[means["benchmark"] == benchmark].reset_index(drop=True)
        axes.set_title(benchmark)
        if rows.empty:
            empty(axes, "scores and costs of any embedder")
            continue
        if rows["cost"].max() > ALIKE * rows["cost"].min():
            places = rows["cost"]
            _against_cost(axes, rows, asked)
        else:  # the same training for all: nothing to weigh, so each stands in a place of its own
            places = pd.Series(range(len(rows)), dtype=float)
            names = [shorten(asked.labels.get(b, b), 14) for b in rows["backbone"]]
            axes.set_xticks(places, names)
            axes.set_xlabel(f"Training of each: {_operations(rows['cost'].mean())} floating-point operations")
        for place, (_, row) in zip(places, rows.iterrows(), strict=True):
            colour = role_colour(asked.style, row["role"])
            axes.plot([place, place], [row["lowest"], row["highest"]], color=colour, linewidth=0.9)
            axes.plot(place, row["score"], _mark(row["role"], asked), color=colour, markersize=5)
        axes.margins(0.15, 0.15)
        low, high = axes.get_ylim()
        short = (
            max(0.0, 4 * asked.view.margin - (high - low)) / 2
        )  # less than twice the band is noise enlarged
        axes.set_ylim(low - short, high + short)
    grid[0].set_ylabel("Mean score (points of 100)")
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=_mark(r, asked),
            color=role_colour(asked.style, r),
            label=r if r == "base" else asked.kinds[r].label,
        )
        for r in dict.fromkeys(means["role"])
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return Drawing(figure, stack([means]))


def _operations(count: float) -> str:
    return EngFormatter(sep="")(float(f"{count:.3g}"))


def _against_cost(axes: Axes, rows: pd.DataFrame, asked: DrawPlate) -> None:
    """A logarithmic axis of costs, the line that nothing beats, and names beside the points."""
    best = pareto(rows["cost"].to_numpy(), rows["score"].to_numpy())
    axes.plot(rows["cost"][best], rows["score"][best], color=FAINT, linewidth=0.8, drawstyle="steps-post")
    named = best if len(rows) > FEW else np.argsort(rows["cost"].to_numpy(), kind="stable")
    for place, index in enumerate(named):  # above and below in turn, since neighbours are near
        row = rows.loc[index]
        name = shorten(asked.labels.get(row["backbone"], row["backbone"]), 16)
        right = row["cost"] > np.sqrt(rows["cost"].min() * rows["cost"].max())
        axes.annotate(
            name, (row["cost"], row["score"]), textcoords="offset points",
            xytext=(-4 if right else 4, -5 if place % 2 else 5), fontsize="x-small", color=FAINT,
            ha="right" if right else "left", va="top" if place % 2 else "bottom",
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = spread(sorted(set(rows["cost"])))
    axes.set_xticks(ticks, [_operations(p) for p in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Training, floating-point operations")


run = publishing(draw)
