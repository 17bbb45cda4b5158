"""Figures and tables show no more than there is, and compare like with like."""

import numpy as np
import pandas as pd
import pytest

from realign.drawing.figures import (
    behaviour,
    composite,
    dynamics,
    floors,
    heatmaps,
    neighbours,
    probes,
    schematic_models,
)
from realign.drawing.style import styled
from realign.drawing.tables import datasets, recipe
from realign.drawing.tabulate import Column
from realign.plan.plates import plate_parts, plate_settings
from realign.results.controls import chance_overlap
from realign.results.probe import with_probe_corpus
from realign.results.published import as_published, reference_files
from realign.results.tidy import Tidy, pick, summary


@pytest.fixture
def read(description, results):
    def given(name):
        parts = [results / "tidy" / p.path for p in plate_parts(description, name)]
        return plate_settings(description, name), Tidy(parts)

    return given


def words(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize("module", [dynamics, floors])
def test_published_means_stand_beside_means_that_count_the_embedding_too(module, read, monkeypatch):
    name = "figure_5" if module is dynamics else "figure_floors"
    asked, tidy = read(name)
    monkeypatch.setattr(module, "published_measure", lambda *_: 0.25)
    data = (module.trace if module is dynamics else module.collect)(asked, tidy, reference_files(["overlap"]))
    row = data[(data["measure"] == "knn_overlap") & (data["pair"] == asked.pairs[0].name)].iloc[0]
    rows = tidy.measures
    own = rows[
        (rows["pair"] == row["pair"]) & (rows["stage"] == "backbone") & (rows["k"] == 10)
        & rows["corpus"].isin(asked.view.corpora)
    ]  # fmt: skip
    assert row["as_published"] == summary(own, "knn_overlap", first=0)["value"] != row["value"]
    assert row["difference"] == pytest.approx(as_published(own, "knn_overlap") - 0.25)


def test_a_rotated_copy_is_a_ceiling_where_a_measure_cannot_see_rotations(read):
    asked, tidy = read("figure_floors")
    rotated = tidy.measures[tidy.measures["pair"] == asked.pairs[0].name].assign(
        pair=f"{asked.pairs[0].left}-rotated", kind="control"
    )
    tidy.measures = pd.concat([tidy.measures, rotated])
    data = floors.collect(asked, tidy, [])
    named = data[data["what"].isin(["rotated", "ceiling"])].groupby("measure")["what"].unique()
    assert {measure: list(what) for measure, what in named.items()} == {
        "correlation": ["rotated"], "procrustes": ["rotated"], "cka": ["ceiling"], "knn_overlap": ["ceiling"],
    }  # fmt: skip


def test_a_study_without_sft_has_no_branch_and_no_column_for_it(read):
    for name, module in (("figure_1", schematic_models), ("figure_3", composite)):
        asked, tidy = read(name)
        alone = asked.model_copy(update={"pairs": tuple(p for p in asked.pairs if p.kind == "rlvr")})
        with styled(asked.style):
            shown = " ".join(words(module.draw(alone, tidy, []).figure))
            assert "SFT" in " ".join(words(module.draw(asked, tidy, []).figure))
        assert "RLVR" in shown
        assert "SFT" not in shown
        assert "not measured" not in shown


def test_corpora_and_measures_without_any_number_have_no_panels(read):
    asked, tidy = read("figure_10")
    tidy.measures = tidy.measures[tidy.measures["corpus"] == "hard"]
    with styled(asked.style):
        assert "short" not in words(neighbours.draw(asked, tidy, []).figure)
    asked, tidy = read("figure_5")
    tidy.measures = tidy.measures[tidy.measures["measure"] == "cka"]
    with styled(asked.style):
        figure = dynamics.draw(asked, tidy, []).figure
    assert "Linear CKA" in words(figure)
    assert not any("not measured" in text for text in words(figure))


def test_numbers_have_a_minus_sign_and_names_keep_their_hyphens():
    assert (
        Column("x", "X", "+.2f", "low", "high").show({"x": -1, "low": -2, "high": 3})
        == "−1.00 [−2.00, +3.00]"
    )
    assert Column("x", "X").show({"x": "base--vs--sft"}) == "base--vs--sft"


def test_table_5_has_the_steps_that_were_taken_and_the_samples(read):
    asked, tidy = read("table_5")
    made = recipe.make(asked, tidy, reference_files(["recipe"]))
    rows = {row["key"]: row for row in made.rows}
    steps = tidy.training.loc[tidy.training["recipe"] == "full", "step"].max()
    assert rows["samples"]["recipe_full"] == f"{int(steps) * 64:,}"
    assert rows["samples"]["paper"] == "1,603,172"
    assert rows["optimizer"]["paper"] == rows["optimizer"]["recipe_full"] == "AdamW"


def test_table_7_has_every_set_and_the_recipes_that_train_on_it(read):
    asked, tidy = read("table_7")
    facts = {"datasets": {"fever-released": {"recipes": ["full"]}, "nli": {"recipes": ["remined"]}}}
    made = datasets.make(asked.model_copy(update={"facts": facts}), tidy, reference_files(["datasets"]))
    rows = {row["dataset"]: row for row in made.rows}
    assert rows["fever-released"]["recipes"] == "full"
    assert rows["fever-released"]["paper"] == 105893
    assert np.isnan(rows["fever-released"]["pairs_out"])
    assert rows["nli"]["recipes"] == "remined"


def as_control(rows, name, **changes):
    """Rows of a pair as those of a control of that name."""
    return rows.assign(pair=name, kind="control", **changes)


def beside_random_weights(asked, tidy, rows, name, **changes):
    """The question and the results of a study that has such a control, and a mere copy of the base as another."""
    base, _, right = name.partition("--vs--")
    copy = as_control(rows, f"{base}--vs--copy", **changes).assign(value=0.875)
    tidy.measures = pd.concat([tidy.measures, as_control(rows, name, **changes), copy])
    return asked.model_copy(update={"untrained": (right,)})


def test_overlap_has_its_floor_and_chance(read):
    asked, tidy = read("figure_10")
    own = pick(tidy.measures, pair="base--vs--tuned", stage="backbone")
    rows = pick(own, measure="knn_overlap")
    asked = beside_random_weights(asked, tidy, rows, "base--vs--untrained", value=0.125)
    with styled(asked.style):
        drawing = neighbours.draw(asked, tidy, [])
    floors = drawing.data[drawing.data["kind"] == "floor"]
    assert set(floors["pair"]) == {"base--vs--tuned", "base--vs--reasoned"}  # the third has another base
    assert set(floors["value"]) == {0.125}
    assert {"random weights, k = 10", "chance, k = 10"} <= set(words(drawing.figure))


def test_random_weights_are_dotted_in_each_panel_of_behaviour(read):
    asked, tidy = read("figure_behaviour")
    pair = asked.pairs[0]
    rows = pick(tidy.measures, pair=pair.name, stage="backbone")
    asked = beside_random_weights(asked, tidy, rows, f"{pair.left}--vs--untrained")
    with styled(asked.style):
        panels = behaviour.draw(asked, tidy, []).figure.axes[:3]
    assert [sum(line.get_linestyle() == ":" for line in axes.lines) for axes in panels] == [1, 1, 1]


def test_chance_of_an_overlap_is_that_of_sets_drawn_at_random():
    random = np.random.default_rng(0)
    sets = [[set(random.choice(99, 10, replace=False)) for _ in range(2)] for _ in range(4000)]
    drawn = np.mean([len(a & b) / len(a | b) for a, b in sets])
    assert chance_overlap(10, 100) == pytest.approx(drawn, rel=0.05)


def test_probes_have_the_floor_that_random_weights_give(read):
    asked, tidy = read("figure_12")
    own = pick(tidy.measures, pair="base--vs--tuned", stage="backbone", measure="probe", direction="left")
    asked = beside_random_weights(asked, tidy, own, "base--vs--untrained", value=0.25, direction="native")
    with styled(asked.style):
        figure = probes.draw(asked, tidy, []).figure
    assert "probe of random weights" in words(figure)
    lines = [[set(line.get_ydata()) == {0.25} for line in axes.lines].count(True) for axes in figure.axes]
    assert lines[:3] == [6, 6, 0]  # a line with a light edge across each split, where the base is the same


def test_a_corpus_whose_labels_are_too_easy_is_not_the_one_that_is_shown(read):
    asked, tidy = read("figure_12")
    assert with_probe_corpus(asked.view, tidy.measures).probe_corpus == "hard"
    easy = (tidy.measures["corpus"] == "hard") & (tidy.measures["statistic"] == "accuracy")
    tidy.measures = tidy.measures.assign(value=tidy.measures["value"].where(~easy, 1.0))
    assert with_probe_corpus(asked.view, tidy.measures).probe_corpus == "short"
    with styled(asked.style):
        assert set(probes.draw(asked, tidy, []).data["corpus"]) == {"short"}
    named = asked.view.model_copy(update={"probe_corpus": "hard"})
    assert with_probe_corpus(named, tidy.measures).probe_corpus == "hard"


def test_pairs_without_any_number_have_no_panel(read):
    for name, module in (("figure_8", heatmaps), ("figure_10", neighbours), ("figure_12", probes)):
        asked, tidy = read(name)
        tidy.measures = tidy.measures[tidy.measures["pair"] != "base--vs--tuned"]
        with styled(asked.style):
            shown = words(module.draw(asked, tidy, []).figure)
        assert "base vs reasoned" in shown
        assert not any("base vs tuned" in text or "not measured" in text for text in shown)
