"""Plates of series: what they read, and a planted path's numbers in the table and in the figures."""

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from realign.drawing.figures import paths as figures
from realign.drawing.tables import paths as tables
from realign.plan.plates import plate_parts, plate_settings
from realign.results.columns import COLUMNS
from realign.results.tidy import Tidy
from realign.study.description import Comparison, PairEntry
from realign.study.series import SeriesEntry
from small_study import small_description

NAMES = ("base", "a", "b", "c", "end")
PLACES = (0.0, 10.0, 20.0, 30.0, 40.0)


def walk(shape):
    """Five points: on a line, or round a square and back."""
    points = {"line": [(i, 0) for i in range(5)], "square": [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]}
    return np.array(points[shape], float) / 100


@pytest.fixture(params=["line", "square"])
def planted(request, tmp_path):
    """A series whose models lie at these points, in weights and in states."""
    points = dict(zip(NAMES, walk(request.param), strict=True))
    sides = [("base", name, "start") for name in NAMES[1:]]
    sides += [(a, b, "step") for a, b in itertools.pairwise(NAMES[1:])]
    pairs, compared = [], []
    for left, right, path in sides:
        about = {"left": left, "right": right, "kind": "rlvr"}
        name = f"{left}--vs--{right}"
        pairs.append(PairEntry(name=name, embed=False, path=path if right != "end" or path else "", **about))
        files = ("hard+bidirectional.linear", "weights")
        compared.append(Comparison(stage="backbone", pair=name, files=files, **about))
        squared = ((points[left] - points[right]) ** 2).sum()
        common = {"study": "small", "stage": "backbone", "pair": name, "kind": "rlvr", "preset": ""}
        states = {**common, "corpus": "hard", "attention": "bidirectional", "measure": "cka_debiased"}
        rows = {
            files[0]: [{**states, "statistic": "value", "value": 1 - squared / 2, "layer_left": 1,
                        "layer_right": 1, "se": 1e-5, "df": 30.0}],
            files[1]: [{**common, "measure": "update_norm", "statistic": "norm", "value": squared**0.5}],
        }  # fmt: skip
        for file, inside in rows.items():
            place = tmp_path / "tidy" / "measures" / name / f"{file}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            frame = pd.DataFrame(inside).reindex(columns=COLUMNS["measures"])
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), place)
    series = SeriesEntry(
        name="end", axis="step", kind="rlvr", start="base", places=tuple(zip(NAMES, PLACES, strict=True))
    )
    description = small_description(
        backbones={name: {} for name in NAMES}, pairs=tuple(pairs), series=(series,),
        compared=tuple(compared), judged=(), scored=(), trained=(),
    )  # fmt: skip
    return request.param, description, tmp_path / "tidy"


def read(description, tidy, plate):
    return Tidy([tidy / part.path for part in plate_parts(description, plate)])


def test_the_table_has_a_planted_paths_shape(planted):
    shape, description, tidy = planted
    asked = plate_settings(description, "table_paths")
    table = tables.make(asked, read(description, tidy, "table_paths"), [])
    found = {row["of"]: row for row in table.rows}
    for of in ("weights", "states"):
        assert found[of]["length"] == pytest.approx(0.04, rel=1e-4)
        assert found[of]["displacement"] == pytest.approx(0.04 if shape == "line" else 0, abs=1e-6)
        # round the square: at a right angle, then at 135 degrees, and back the way it came
        cosine = 1 if shape == "line" else np.mean([0, -np.sqrt(0.5), -1])
        assert found[of]["turning"] == pytest.approx(cosine, rel=1e-3)
    assert np.isnan(found["weights"]["length_low"])  # which is exact
    assert found["states"]["length_low"] < found["states"]["length"] < found["states"]["length_high"]
    if shape == "line":
        leaves = found["Linear CKA, debiased"]
        assert leaves["leaves_low"] <= leaves["leaves"] <= leaves["leaves_high"] < 20


def test_a_path_on_both_sides_of_its_start_has_no_place_at_which_it_leaves_it(planted):
    _, description, tidy = planted
    asked = plate_settings(description, "table_paths")
    places = tuple(zip(("a", "base", "b", "c", "end"), (-10.0, 0.0, 20.0, 30.0, 40.0), strict=True))
    moved = description.series[0].model_copy(update={"places": places})
    asked = asked.model_copy(update={"facts": {"series": [moved.model_dump(mode="json")]}})
    assert tables.make(asked, read(description, tidy, "table_paths"), []).rows == []


def test_the_figures_show_each_place_and_each_dose(planted):
    shape, description, tidy = planted
    drawn = {}
    for plate in ("figure_paths", "figure_dose"):
        asked = plate_settings(description, plate)
        drawn[plate] = figures.draw(asked, read(description, tidy, plate), []).data
    data = drawn["figure_paths"]
    cka = data[data["quantity"] == "cka_debiased"].set_index("backbone")
    assert list(cka.index) == list(NAMES)
    assert list(cka["place"]) == list(PLACES)
    assert cka.loc["base", "value"] == 1
    distances = np.linalg.norm(walk(shape), axis=1)
    assert list(cka["moved"]) == pytest.approx(list(distances))
    assert "update_norm" not in set(drawn["figure_dose"]["quantity"])


def test_a_study_without_series_reads_nothing_for_them():
    description = small_description(series=())
    assert plate_parts(description, "table_paths") == []


def test_starts_alone_are_no_path():
    """Where nothing but the starts is known, a page says so."""
    description = small_description()
    for plate in ("figure_paths", "figure_dose"):
        assert figures.draw(plate_settings(description, plate), Tidy([]), []).data.empty
