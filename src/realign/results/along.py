"""What is known of each backbone of a series, by its place and by how far its weights have moved."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from realign.measures.table import MEASURES
from realign.results.estimates import number_of, of_whole, shown_interval
from realign.results.statistics import Estimate
from realign.results.tidy import Tidy, pick, task_scores, usual_k
from realign.study.drawing import DrawPlate
from realign.study.series import SeriesEntry

STATES = ("correlation", "cka_debiased", "basis_kept", "knn_overlap")
TITLES = {
    **{name: MEASURES[name].title for name in STATES},
    "update_norm": "Relative norm of the update",
    "pass_rate": "Pass rate, held-out",
    "perplexity": "Perplexity, held-out",
    "before": "Score before training",
    "after": "Score of the embedder",
}
COLUMNS = [
    "series",
    "kind",
    "axis",
    "backbone",
    "place",
    "moved",
    "quantity",
    "value",
    "ci_low",
    "ci_high",
    "error",
]


def series_of(asked: DrawPlate) -> list[SeriesEntry]:
    """The series that a plate shows."""
    return [SeriesEntry.model_validate(entry) for entry in asked.facts.get("series", [])]


def between(measures: pd.DataFrame, left: str, right: str) -> pd.DataFrame:
    """The measures of two backbones, whichever of them stands on the left."""
    return pick(measures, pair=(f"{left}--vs--{right}", f"{right}--vs--{left}"), stage="backbone")


def along(asked: DrawPlate, tidy: Tidy) -> pd.DataFrame:
    """A row for each series, backbone and quantity that is known of it.

    A start is as similar to itself as can be, and its weights have not moved.
    """
    rows: list[dict[str, Any]] = []
    for series in series_of(asked):
        for name, place in series.places:
            found = between(tidy.measures, series.start, name)
            moved = 0.0 if name == series.start else of_whole(found, "update_norm", "norm")["value"]
            about: dict[str, Any] = {"series": series.name, "kind": series.kind, "axis": series.axis}
            about |= {"backbone": name, "place": place, "moved": moved}
            similar = _at_start() if name == series.start else _similarities(asked, found)
            for quantity, number in (*similar, *_own(asked, tidy, name)):
                if np.isfinite(number.value):
                    low, high = shown_interval(number, (-np.inf, np.inf))
                    rows.append({**about, "quantity": quantity, "value": number.value, "ci_low": low,
                                 "ci_high": high, "error": number.error})  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _at_start() -> Iterator[tuple[str, Estimate]]:
    for measure in STATES:
        yield measure, Estimate(1.0, np.nan)
    yield "update_norm", Estimate(0.0, np.nan)


def _similarities(asked: DrawPlate, found: pd.DataFrame) -> Iterator[tuple[str, Estimate]]:
    """How alike a backbone is to the start, and how far its weights have moved."""
    states = found[found["corpus"].isin(asked.view.corpora)]
    near = usual_k(states, asked.view.neighbours)
    for measure in STATES:
        rows = states[states["k"] == near] if measure == "knn_overlap" else states
        yield measure, number_of(rows, measure, asked.view.preset, asked.view.first_layer)
    norm = of_whole(found, "update_norm", "norm")
    yield "update_norm", Estimate(norm["value"], np.nan)


def _own(asked: DrawPlate, tidy: Tidy, name: str) -> Iterator[tuple[str, Estimate]]:
    """What a backbone can do by itself, and what its embedder scores."""
    for metric in ("pass_rate", "perplexity"):
        for row in pick(tidy.backbones, backbone=name, metric=metric).tail(1).itertuples():
            yield metric, Estimate(row.value, (row.ci_high - row.ci_low) / 3.92)
    scores = task_scores(pick(tidy.scores, backbone=name), asked.view.preset)
    pooled = scores["recipe"].isna() | (scores["recipe"] == "")
    for quantity, own in (
        ("before", scores[pooled]),
        ("after", scores[scores["recipe"] == asked.view.recipe]),
    ):
        if len(own):
            yield quantity, Estimate(float(own.groupby("task")["value"].mean().mean()), np.nan)
