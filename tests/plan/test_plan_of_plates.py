import json
import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic import ValidationError

from realign.artifacts.hashing import canonical_json
from realign.commands import STAGES, load_command
from realign.drawing.commands import PLATE_COMMANDS
from realign.measures.families import FAMILIES, Family
from realign.plan.describe import describe
from realign.plan.plates import (
    claims_parts,
    claims_settings,
    filled,
    plate_parts,
    plate_settings,
    report_settings,
)
from realign.plates.catalogue import FIGURES, PLATES, TABLES
from realign.study.description import Comparison, Description, PairEntry
from realign.study.figures import Figures, Palette, Style
from realign.study.load import parse_study
from small_study import PAIRS, small_description
from synthetic_results import paper_shaped


def slices(description: Description) -> dict[str, str]:
    """Everything that can make a plate or the claims stale, but for files' content."""
    found = {
        n: canonical_json(
            [plate_settings(description, n).as_slice(), [p.path for p in plate_parts(description, n)]]
        )
        for n in PLATES
    }
    found["claims"] = canonical_json(
        [claims_settings(description).as_slice(), [p.path for p in claims_parts(description)]]
    )
    return found


def test_the_report_is_rewritten_when_a_caption_changes(description, monkeypatch):
    before = report_settings(description)
    monkeypatch.setitem(PLATES, "figure_6", replace(PLATES["figure_6"], caption="Another caption."))
    assert report_settings(description) != before
    assert sorted(p.name for p in before.plates) == sorted(filled(description))


def changed(before: Description, after: Description) -> set[str]:
    old, new = slices(before), slices(after)
    return {name for name in old if old[name] != new[name]}


def with_figures(description: Description, **more) -> Description:
    return description.model_copy(update={"figures": Figures(**more)})


def test_a_colour_redraws_figures_and_nothing_else(description):
    style = Style(dpi=60, palette=Palette(rlvr="#004488"))
    assert changed(description, with_figures(description, style=style)) == set(FIGURES)


def test_one_figures_setting_redraws_that_figure_alone(description):
    after = with_figures(description, style=Style(dpi=60), plates={"figure_10": {"neighbours": [5]}})
    assert changed(description, after) == {"figure_10"}


def test_a_label_of_one_backbone_touches_only_what_shows_it(description):
    backbones = {n: dict(b) for n, b in description.backbones.items()}
    backbones["longer"]["label"] = "Longer"
    touched = changed(description, description.model_copy(update={"backbones": backbones}))
    assert "claims" not in touched
    assert not {"figure_mining", "table_5", "table_7"} & touched
    assert "figure_8" in touched


def test_the_table_of_levels_reads_each_family_of_the_study(monkeypatch):
    monkeypatch.setitem(FAMILIES, "own", Family("own", help="", run="", reads="models", corpus=False))
    pair = PAIRS[0]
    about = {"left": pair.left, "right": pair.right, "pair": pair.name, "kind": pair.kind}
    own = Comparison(stage="backbone", files=("own",), **about)
    study = small_description()
    study = study.model_copy(update={"compared": (*study.compared, own)})
    assert {p.family for p in plate_parts(study, "table_8")} == {
        "linear", "neighbours", "probe", "weights", "behaviour", "own",
    }  # fmt: skip


def test_claims_and_plates_with_floors_know_which_backbones_have_random_weights(description):
    made = {"noise": {"source": "untrained from base"}, "copy": {"source": "org/untrained"}, "fetched": {}}
    floor = PairEntry(name="f", left="base", right="fetched", kind="control", tags=("untrained",))
    more = description.model_copy(
        update={"backbones": {**description.backbones, **made}, "pairs": (*description.pairs, floor)}
    )
    assert claims_settings(more).untrained == ("noise", "fetched")
    assert plate_settings(more, "figure_floors").untrained == ("noise", "fetched")
    assert plate_settings(more, "figure_1").untrained == ()


def test_a_claim_judges_and_draws_nothing(description):
    claims = description.claims.model_copy(update={"alpha": 0.01})
    assert changed(description, description.model_copy(update={"claims": claims})) == {"claims"}


def test_a_recipes_setting_touches_the_tables_that_print_it(description):
    recipes = {**description.recipes, "full": {**description.recipes["full"], "batches": {"size": 128}}}
    touched = changed(description, description.model_copy(update={"recipes": recipes}))
    assert touched == {"table_5", "table_6", "figure_cost"}


def test_a_new_pair_leaves_the_main_figures_alone(description):
    fewer = description.model_copy(update={
        "pairs": description.pairs[:1] + description.pairs[2:],
        "compared": tuple(c for c in description.compared if c.pair != "base--vs--reasoned"),
    })  # fmt: skip
    touched = changed(fewer, description)
    assert not {"figure_1", "figure_2", "figure_3", "figure_4", "table_3", "table_4"} & touched
    assert {"figure_6", "figure_10", "claims"} <= touched


def test_main_figures_take_the_prolonged_pair(description):
    pairs = {p.name for p in plate_settings(description, "figure_3").pairs}
    assert pairs == {"base--vs--tuned", "reasoned--vs--longer"}


def test_plates_that_a_study_has_nothing_for_are_left_out(description):
    assert filled(description) == list(PLATES)
    alone = description.model_copy(update={
        "pairs": tuple(p.model_copy(update={"embed": False}) for p in description.pairs),
        "compared": tuple(c for c in description.compared if c.stage == "backbone"),
        "scored": (), "trained": (), "mined": (), "audited": (), "judged": (),
    })  # fmt: skip
    left = {"figure_1", "figure_2", "figure_3", "figure_4", "figure_6", "figure_8", "figure_10", "figure_12"}
    left |= {"figure_floors", "figure_weights", "table_weights", "figure_behaviour", "table_behaviour"}
    left |= {"figure_paths", "figure_dose", "table_paths"}
    left |= {f"table_{n}" for n in (2, 3, 4, 5, 8, 9, 11, 12)}
    assert set(filled(alone)) == left


def test_an_unknown_setting_or_plate_is_refused():
    with pytest.raises(ValidationError):
        Figures(plates={"figure_10": {"neighbors": [5]}})
    with pytest.raises(ValidationError):
        Figures(plates={"chart_10": {}})


def test_every_plate_has_a_command_with_its_own_code():
    for name in PLATES:
        assert load_command(name) is PLATE_COMMANDS[name]
        assert name in STAGES
    assert (
        len({PLATE_COMMANDS[n].code for n in ("figure_3", "figure_5", "figure_6", "table_1", "table_5")}) == 5
    )
    assert PLATE_COMMANDS["figure_6"].code == PLATE_COMMANDS["figure_8"].code


def test_a_command_line_is_long_enough_for_the_papers_study():
    """One argument of a shell may hold 128 KB: settings and paths of the largest job must fit."""
    description = paper_shaped()
    assert len(canonical_json(description.as_slice())) < 60_000
    for name in PLATES:
        paths = sum(len(f"results/a-longer-name/tidy/{p.path} ") for p in plate_parts(description, name))
        assert paths + len(canonical_json(plate_settings(description, name).as_slice())) < 100_000
    assert sum(len(f"results/a-longer-name/tidy/{p.path} ") for p in claims_parts(description)) < 100_000


def test_a_description_survives_its_slice(description):
    read = Description.model_validate(json.loads(canonical_json(description.as_slice())))
    assert read == description
    # what comes first is drawn as the main one, and written names are sorted
    for section in ("backbones", "recipes", "corpora", "datasets", "benchmarks"):
        assert list(getattr(read, section)) == list(getattr(description, section))


@pytest.mark.parametrize(
    "module", ["realign.tools.figures", "realign.drawing.commands", "realign.drawing.figures.heatmaps"]
)
def test_drawing_needs_no_torch(module):
    heavy = "torch transformers mteb deepspeed sentence_transformers snakemake"
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in {heavy.split()!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_planning_needs_no_pandas():
    heavy = "pandas matplotlib pyarrow"
    code = f"import sys, realign.drawing.commands; sys.exit(any(m in sys.modules for m in {heavy.split()!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_papers_figures_and_tables_are_all_there():
    assert {f"figure_{n}" for n in range(1, 14)} <= set(FIGURES)
    assert {f"table_{n}" for n in range(1, 14)} <= set(TABLES)


def test_a_study_that_scores_backbones_and_trains_nothing_is_planned():
    study = parse_study({
        "study": {"name": "bare"},
        "backbones": {"base": {"pretrain": {}}, "sft": {"sft": {"from": "base"}}},
        "pairs": [{"left": "base", "right": "sft", "kind": "sft", "embed": False}],
        "evaluation": {
            "backbones": True,
            "tasks": {"DocsSTS": {"type": "sts", "embedded": "DocsSTS", "benchmark": "Docs"}},
        },
    })  # fmt: skip
    described = describe(study)
    assert {p.table for p in claims_parts(described)} == {"measures"}
    assert "table_before" in filled(described)
