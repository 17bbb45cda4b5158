"""Loss and validation along contrastive training, a line for each training."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from realign.drawing.panels import Drawing, empty, publishing, sheet, stack
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import Needs, Plate
from realign.results.tidy import Tidy, pick
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_loss",
        "Loss and validation along contrastive training",
        "Training loss (a running mean), validation loss and validation nDCG@10 by step. "
        "Colours and marks are kinds of backbones, dashes are seeds.",
        category="Training",
        needs=(Needs("training"),),
    ),
)

LINES = ("-", "--", ":", "-.")  # seeds
PANELS = (
    ("loss", "Training loss"),
    ("val_loss", "Validation loss"),
    ("val_ndcg_at_10", "Validation nDCG@10"),
)


def roles(asked: DrawPlate) -> dict[str, str]:
    """The role of each backbone: what made it, or base."""
    made = {p.right: p.kind for p in asked.pairs}
    return {n: made.get(n, "base") for p in asked.pairs for n in (p.left, p.right)}


def smooth(values: pd.Series) -> pd.Series:
    """A running mean over a twentieth of the training."""
    return values.rolling(max(1, len(values) // 20), min_periods=1, center=True).mean()


def _mark(role: str, asked: DrawPlate) -> str:
    return "o" if role == "base" else asked.kinds[role].mark


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A panel for each metric; colours by role, one line for each training."""
    role = roles(asked)
    figure = sheet(asked.style, 68)
    grid = figure.subplots(1, len(PANELS))
    drawn: list[pd.DataFrame] = []
    seeds: dict[Any, Any] = {}
    for axes, (metric, title) in zip(grid, PANELS, strict=True):
        axes.set(title=title, xlabel="Step")
        rows = pick(tidy.training, metric=metric, recipe=asked.view.recipe, backbone=list(role))
        if rows.empty:
            empty(axes, metric)
            continue
        for (backbone, seed), run_rows in rows.groupby(["backbone", "seed"], sort=False):
            line = run_rows.sort_values("step")[["backbone", "recipe", "seed", "step", "metric", "value"]]
            line = line.assign(drawn=smooth(line["value"]) if metric == "loss" else line["value"])
            seeds.setdefault(seed, LINES[len(seeds) % len(LINES)])
            axes.plot(
                line["step"], line["drawn"], color=role_colour(asked.style, role[str(backbone)]),
                linewidth=0.9, linestyle=seeds[seed],
                marker="" if metric == "loss" else _mark(role[str(backbone)], asked),
            )  # fmt: skip
            drawn.append(line.assign(role=role[str(backbone)], seed=seed))
    shown = dict.fromkeys(role.values())
    handles = [
        Line2D(
            [], [], color=role_colour(asked.style, r), marker=_mark(r, asked), linestyle="",
            label=r if r == "base" else asked.kinds[r].label,
        )
        for r in shown
    ]  # fmt: skip
    handles += [
        Line2D([], [], color=FAINT, linestyle=line, label=f"seed {seed:.0f}") for seed, line in seeds.items()
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return Drawing(figure, stack(drawn))


run = publishing(draw)
