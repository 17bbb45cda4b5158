"""The shape of each series in numbers: how long its path is, how straight, where numbers change."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Needs, Plate, measures_of
from realign.results.along import TITLES, along, between, series_of
from realign.results.estimates import number_of, of_whole
from realign.results.paths import change_point, path_length, straightness, turning
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate
from realign.study.series import SeriesEntry

PLATES = (
    Plate(
        "table_paths",
        "The shape of each path of post-training",
        "Length of the path through all its backbones, distance between its ends, their ratio (1 on a line), "
        "and the mean cosine of the way gone so far and the next step (1 on a line, 0 in a random walk), "
        "in weights and in the geometry of states; the place at which a number leaves the value that it has "
        "at the start, with its 95 % interval.",
        category="Paths",
        needs=(
            measures_of("backbone", families=("linear", "neighbours", "weights")),
            Needs("backbones", required=False),
        ),
        pairs="series",
        corpora="main",
        facts=("series",),
    ),
)

COLUMNS = (
    Column("series", "Series"),
    Column("axis", "Axis"),
    Column("of", "Of"),
    Column("length", "Length", ".3f", "length_low", "length_high", optional=True),
    Column("displacement", "Between ends", ".3f", optional=True),
    Column("straightness", "Ratio", ".2f", optional=True),
    Column("turning", "Cosine", ".2f", optional=True),
    Column("leaves", "Leaves its start at", ".3g", "leaves_low", "leaves_high", optional=True),
)


def make(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Table:
    """For each series a row in weights and one in states, then one for each number that leaves its floor."""
    known = along(asked, tidy)
    rows: list[dict[str, Any]] = []
    for series in series_of(asked):
        about = {"series": series.name, "axis": series.axis}
        rows += [{**about, **row} for row in (*_shapes(series, asked, tidy), *_changes(series, known))]
    table = Table(COLUMNS, rows)
    table.notes.append(
        "Distances are the relative norm of the update between two models' weights, and the root of 2 − 2 CKA"
        " between their states. The CKA is the debiased one, so that noise adds nothing to a squared distance"
        " on average. A path of steps that are small against the noise is still measured too long, since"
        " squared distances below 0 count as 0 and a length is a sum of roots."
    )
    return table


def _shapes(series: SeriesEntry, asked: DrawPlate, tidy: Tidy) -> Iterator[dict[str, Any]]:
    """The path's shape by both distances, where all of them are known."""
    names = [name for name, _ in series.places]
    first = names.index(series.start)
    if first not in (0, len(names) - 1):  # places on both sides of the start: two ways, and not one
        return
    for of, squared in (("weights", _moved), ("states", _unlike)):
        steps = [squared(between(tidy.measures, a, b), asked) for a, b in pairwise(names)]
        starts = [squared(between(tidy.measures, series.start, n), asked) for n in names if n != series.start]
        if first:
            steps, starts = steps[::-1], starts[::-1]
        known = np.array([*steps, *starts], float)
        if len(steps) > 1 and np.isfinite(known[:, 0]).all():
            values, errors = np.array(steps).T
            length = path_length(values, errors=errors)
            end = float(np.sqrt(max(starts[-1][0], 0)))
            yield {
                "of": of, "length": length.value, "length_low": length.low, "length_high": length.high,
                "displacement": end, "straightness": straightness(end, length.value),
                "turning": turning([d for d, _ in starts], values),
            }  # fmt: skip


def _moved(found: pd.DataFrame, _: DrawPlate) -> tuple[float, float]:
    """The squared distance between two models' weights, which needs no interval."""
    return of_whole(found, "update_norm", "norm")["value"] ** 2, np.nan


def _unlike(found: pd.DataFrame, asked: DrawPlate) -> tuple[float, float]:
    """|K/|K| − L/|L||² = 2 − 2 CKA of two models' centred Gram matrices K and L, and its standard error."""
    states = found[found["corpus"].isin(asked.view.corpora)]
    cka = number_of(states, "cka_debiased", asked.view.preset, asked.view.first_layer)
    return 2 - 2 * cka.value, 2 * cka.error


def _changes(series: SeriesEntry, known: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Where each number leaves its start; a start without an error has the least one of the others.

    A path that begins before its start, as a merge with alphas below 0, has no value to leave there.
    """
    if series.start != series.places[0][0]:
        return
    for quantity, title in TITLES.items():
        rows = known[(known["series"] == series.name) & (known["quantity"] == quantity)].sort_values("place")
        errors = rows["error"].replace([np.inf, 0], np.nan)
        place = change_point(rows["place"], rows["value"], errors.fillna(errors.min()))
        if np.isfinite(place.value):
            yield {"of": title, "leaves": place.value, "leaves_low": place.low, "leaves_high": place.high}


run = publishing(make, PLATES)
