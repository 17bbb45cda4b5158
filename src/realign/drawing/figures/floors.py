"""Each measure of each pair beside its floors: two seeds of one backbone, random weights, and chance."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
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
from realign.measures.table import MEASURES
from realign.plates.plate import LINEAR, NEAR, PRINTED, Plate, measures_of
from realign.results.controls import random_weights, two_seeds
from realign.results.published import as_published, published_measure
from realign.results.tidy import Tidy, chance, summary, usual_k
from realign.study.description import PairEntry
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_floors",
        "Similarity against its floors",
        "Each measure of each pair beside its floors: two contrastive seeds of one backbone, random weights "
        "of the base's shape, and what chance gives. A copy of the base that is rotated at random is a floor "
        "of measures that see the basis; to CKA and neighbours it is the same space, hence a ceiling. Both "
        "sides of a pair see the same batches and two seeds do not, so a pair may lie above that floor.",
        category="Representations",
        needs=(measures_of("backbone", "embedder", families=(*LINEAR, *NEAR), controls=True),),
        corpora="main",
        references=PRINTED,
    ),
)

SHOWN = ("correlation", "cka", "procrustes", "knn_overlap")
BLIND_TO_ROTATION = ("cka", "knn_overlap")
MARKS = {"backbone": "o", "embedder": "s"}
COLUMNS = [
    "pair", "kind", "measure", "what", "value", "ci_low", "ci_high", "as_published", "published",
    "difference",
]  # fmt: skip
# Floors that are points: the mark, how far below a row's middle (many lie at one value), and what it is.
POINTS = {
    "shuffled": ("x", -0.33, "tokens shuffled"),
    "shuffled_in_texts": ("1", -0.22, "tokens shuffled within texts"),
    "chance": ("2", -0.11, "chance, computed"),
    "rotated": ("+", 0.11, "rotated at random"),
    "ceiling": ("|", 0.11, "ceiling: rotated at random"),
    "untrained": ("^", 0.33, "random weights"),
}


def collect(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> pd.DataFrame:
    """One row per pair × measure × what it is: backbone, embedder, or one of the floors."""
    near, rows = usual_k(tidy.measures, asked.view.neighbours), []
    given = references if asked.view.paper else []
    main = asked.view.corpora[0] if asked.view.corpora else ""

    def add(pair: PairEntry, measure: str, what: str, frame: pd.DataFrame) -> None:
        if measure == "knn_overlap":
            frame = frame[frame["k"] == near]
        read = summary(frame, measure, asked.view.preset, asked.view.first_layer)
        if np.isfinite(read["value"]):
            paper = (
                published_measure(given, pair, asked.known, measure, what, main, near)
                if what in MARKS
                else np.nan
            )
            alike = as_published(frame, measure, asked.view.preset) if what in MARKS else np.nan
            rows.append({
                "pair": pair.name, "kind": pair.kind, "measure": measure, "what": what, **read,
                "as_published": alike, "published": paper, "difference": alike - paper,
            })  # fmt: skip

    corpus = tidy.measures[tidy.measures["corpus"].isin(asked.view.corpora)]
    for pair in asked.pairs:
        own = corpus[corpus["pair"] == pair.name]
        seeds, untrained = two_seeds(corpus, pair), random_weights(corpus, pair, asked.untrained)
        for measure in SHOWN:
            add(pair, measure, "backbone", own[own["stage"] == "backbone"])
            add(pair, measure, "embedder", own[own["stage"] == "embedder"])
            add(pair, measure, "seeds", seeds)
            rotated = "ceiling" if measure in BLIND_TO_ROTATION else "rotated"
            floors = {"shuffled": "shuffled", "shuffled_in_texts": "shuffled_in_texts", "rotated": rotated}
            for floor, what in floors.items():
                add(pair, measure, what, corpus[corpus["pair"] == f"{pair.left}-{floor}"])
            add(pair, measure, "untrained", untrained)
            by_chance = chance(own[own["stage"] == "backbone"], measure)
            if np.isfinite(by_chance):
                rows.append({"pair": pair.name, "kind": pair.kind, "measure": measure, "what": "chance",
                             "value": by_chance, "ci_low": np.nan, "ci_high": np.nan})  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def draw(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Drawing:
    """A panel for each measure, a row for each pair."""
    data = collect(asked, tidy, references)
    near = usual_k(tidy.measures, asked.view.neighbours)
    figure = sheet(asked.style, 36 + 11 * max(len(asked.pairs), 1))
    grid = figure.subplots(1, len(SHOWN), sharey=True)
    for axes, measure in zip(grid, SHOWN, strict=True):
        rows = data[data["measure"] == measure]
        axes.set_title(
            MEASURES[measure].title + (f" (k={near})" if measure == "knn_overlap" else ""),
            fontsize="small",
        )
        if rows.empty:
            empty(axes, f"{measure} of any pair")
            continue
        for place, pair in enumerate(asked.pairs):
            _row(axes, rows[rows["pair"] == pair.name], place, pair.kind, asked)
        axes.set_xlim(min(0, rows["value"].min()) - 0.03, 1.04)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    grid[0].set_ylim(len(asked.pairs) - 0.5, -0.5)
    grid[0].set_yticks(
        range(len(asked.pairs)), [pair_label(p, asked) for p in asked.pairs], fontsize="x-small"
    )
    layers = "0 (E)" if asked.view.first_layer == 0 else "1"
    main = asked.view.corpora[0] if asked.view.corpora else ""
    figure.supxlabel(
        f"Corpus: {asked.labels.get(main, main)}. Inverse row entropy: final layer; others: mean over layers "
        f"from {layers}. Colour: kind of pair.",
        fontsize="x-small", color=FAINT,
    )  # fmt: skip
    control = role_colour(asked.style, "control")
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker="o", linestyle="", color=FAINT, label="backbones"),
        Line2D([], [], marker="s", linestyle="", color=FAINT, fillstyle="none", label="embedders"),
        Patch(color=control, label="two seeds of one backbone"),
        *(
            Line2D([], [], marker=mark, linestyle="", color=FAINT, label=label, fillstyle="none")
            for what, (mark, _, label) in POINTS.items()
            if (data["what"] == what).any()
        ),
    ]
    if data["published"].notna().any():
        handles.append(published_mark())
    figure.legend(handles=handles, loc="outside upper center", ncols=4, columnspacing=1, handletextpad=0.4)
    return Drawing(figure, stack([data]))


def _row(axes: Axes, rows: pd.DataFrame, place: int, kind: str, asked: DrawPlate) -> None:
    colour = role_colour(asked.style, kind)
    for _, row in rows.iterrows():
        low, high = (row[c] if np.isfinite(row[c]) else row["value"] for c in ("ci_low", "ci_high"))
        if row["what"] == "seeds":
            low, high = min(low, row["value"] - 0.006), max(high, row["value"] + 0.006)
            axes.barh(place, high - low, left=low, height=0.8, color=role_colour(asked.style, "control"))
        elif row["what"] in POINTS:
            mark, below, _ = POINTS[row["what"]]
            axes.plot(row["value"], place + below, mark, color=FAINT, markersize=4, fillstyle="none")
        else:
            y = place - 0.17 if row["what"] == "backbone" else place + 0.17
            axes.plot([low, high], [y, y], color=colour, linewidth=1)
            axes.plot(
                row["value"], y, MARKS[row["what"]], color=colour, markersize=4,
                fillstyle="full" if row["what"] == "backbone" else "none",
            )  # fmt: skip
            axes.plot(row["published"], y, **PUBLISHED)


run = publishing(draw)
