"""One entry of a study for many backbones on a path: which they are, and what is compared."""

import json

import pytest

from realign.plan.comparisons import comparisons
from realign.plan.describe import describe
from realign.plan.plates import claims_parts, claims_settings, plate_settings
from realign.plates.catalogue import PLATES
from realign.study.errors import StudyError
from realign.study.load import parse_study

STUDY = {
    "study": {"name": "paths"},
    "backbones": {
        "base": {"pretrain": {}},
        "rl": {"rlvr": {"from": "base", "checkpoints": [10, 20], "optimisation": {"steps": 50}}},
    },
    "pairs": [{"left": "base", "right": "rl", "kind": "rlvr"}],
    "data": {"datasets": {"code": {"embedded": "description-code"}}},
    "mining": {"lexical": {}},
    "recipes": {"full": {}},
    "evaluation": {"backbones": True, "tasks": {"Own": {"type": "sts", "embedded": "DocsSTS"}}},
}
MEMBERS = ["rl-step10", "rl-step20"]


def study(**changes):
    return parse_study(STUDY | changes)


def with_backbones(**backbones):
    return study(backbones=STUDY["backbones"] | backbones)


def pairs(made, path):
    return [pair.name for pair in made.pairs if pair.path == path]


def test_checkpoints_are_backbones_as_if_the_study_had_listed_them():
    made = study()
    assert list(made.backbones) == ["base", "rl", *MEMBERS]
    by_hand = {"from": "base", "stop": 20, "optimisation": {"steps": 50}}
    listed = with_backbones(**{"other": {"rlvr": by_hand}}).backbones["other"]
    assert made.backbones["rl-step20"] == listed
    assert made.backbones["rl"].recipe.as_slice() == listed.recipe.as_slice() | {"stop": None}
    assert {name for name in made.backbones if name in describe(made).judged} == {"base", "rl", *MEMBERS}
    assert set(MEMBERS) <= set(describe(made).scored)


def test_the_start_is_compared_with_each_and_neighbours_with_each_other():
    made = study()
    assert pairs(made, "") == ["base--vs--rl"]
    assert pairs(made, "start") == [f"base--vs--{name}" for name in MEMBERS]
    assert pairs(made, "step") == ["rl-step10--vs--rl-step20", "rl-step20--vs--rl"]
    assert {pair.kind for pair in made.pairs} == {"rlvr"}
    (entry,) = describe(made).series
    assert (entry.name, entry.axis, entry.start) == ("rl", "step", "base")
    assert entry.places == (("base", 0.0), ("rl-step10", 10.0), ("rl-step20", 20.0), ("rl", 50.0))


@pytest.mark.parametrize(
    ("embed", "trained"),
    [("ends", {"base", "rl"}), ("all", {"base", "rl", *MEMBERS}), ("none", {"base", "rl"})],
)
def test_embedders_are_trained_from_the_ends_unless_all_are_asked_for(embed, trained):
    made = with_backbones(rl=STUDY["backbones"]["rl"] | {"embed": embed})
    assert {name.split("+")[0] for name in describe(made).trained} == trained


def test_pairs_along_a_path_are_measured_on_the_main_corpus_and_have_no_floors():
    found = {c.name: c for c in comparisons(study())}
    own = found["base--vs--rl"].files
    along = [c for name, c in found.items() if any(member in name for member in MEMBERS)]
    assert len(along) == 4
    for comparison in along:
        assert set(comparison.files) < set(own)
        assert len({file.split("+")[0] for file in comparison.files if "+" in file}) == 1
    assert [c.left for c in found.values() if c.floor == "shuffled"] == ["base"]


def test_claims_and_plates_of_pairs_leave_a_path_out():
    described, plain = (describe(made) for made in (study(), study(backbones={
        "base": {"pretrain": {}}, "rl": {"rlvr": {"from": "base", "optimisation": {"steps": 50}}}
    })))  # fmt: skip
    assert claims_settings(described) == claims_settings(plain)
    assert claims_parts(described) == claims_parts(plain)
    for plate in (name for name in PLATES if PLATES[name].pairs != "series"):
        assert plate_settings(described, plate).pairs == plate_settings(plain, plate).pairs


def test_a_study_as_a_run_froze_it_is_the_same_study():
    made = study(resources={"backbones": {"rl": {"rlvr": {"gpus": 2}}}})
    frozen = json.loads(json.dumps(made.model_dump(mode="json"), sort_keys=True))
    assert parse_study(frozen) == made
    assert made.resources.of("rlvr", "rl-step10").gpus == 2


def test_a_hubs_revisions_and_folders_of_a_pattern():
    revisions = {100: "step100-tokens1B", 200: "step200-tokens2B"}
    made = with_backbones(
        olmo={"hub": "org/m", "revision": "main", "step": 300, "checkpoints": revisions},
        own={"path": "/runs/checkpoint-{step}", "checkpoints": [1, 2], "step": 3},
    )
    backbones = made.backbones
    assert backbones["olmo-step200"].fetch_hub().revision == "step200-tokens2B"
    assert [backbones[n].path for n in ("own-step1", "own-step2", "own")] == [
        f"/runs/checkpoint-{n}" for n in (1, 2, 3)
    ]
    assert {"olmo-step100--vs--olmo", "own-step1--vs--own"} <= set(pairs(made, "start"))
    trained = {name.split("+")[0] for name in describe(made).trained}
    assert trained == {"base", "rl", "olmo-step100", "olmo", "own-step1", "own"}


def test_a_merge_with_many_alphas_lies_on_a_line_through_its_parents():
    made = with_backbones(mix={"merge": {"of": ["base", "rl"], "alpha": 0.5, "alphas": [-0.5, 1.5]}})
    assert made.backbones["mix-alpha-0.5"].given.alpha == -0.5
    entry = describe(made).series[1]
    assert (entry.axis, entry.kind) == ("alpha", "merge")
    assert entry.places == (("mix-alpha-0.5", -0.5), ("base", 0.0), ("mix", 0.5), ("mix-alpha1.5", 1.5))
    assert "base--vs--mix-alpha-0.5" in pairs(made, "start")
    assert "mix--vs--mix-alpha1.5" in pairs(made, "step")


def test_a_pair_of_two_backbones_of_a_series_leaves_its_start():
    made = study(pairs=[{"left": "rl-step10", "right": "rl", "kind": "rlvr"}])
    (entry,) = describe(made).series
    assert entry.start == "base"
    assert entry.places == (("base", 0.0), ("rl-step10", 10.0), ("rl-step20", 20.0), ("rl", 50.0))


@pytest.mark.parametrize(
    ("left", "start", "place"), [("base", "base", 0), ("rl", "rl", 1), ("far", "base", 0)]
)
@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_a_merges_start_stands_where_it_lies_on_the_line(left, start, place, method):
    merge = {"of": ["base", "rl"], "method": method, "alpha": 0.5, "alphas": [0.75]}
    backbones = STUDY["backbones"] | {"far": {"pretrain": {}}, "mix": {"merge": merge}}
    made = study(backbones=backbones, pairs=[{"left": left, "right": "mix", "kind": "merge"}])
    entry = describe(made).series[1]
    assert entry.start == start
    assert dict(entry.places) == {start: place, "mix": 0.5, "mix-alpha0.75": 0.75}


def test_steps_are_named_in_full():
    steps = {1000000: "a", 1234567: "b", 1234568: "c"}
    made = with_backbones(olmo={"hub": "org/m", "step": 2000000, "checkpoints": steps})
    assert {f"olmo-step{step}" for step in steps} < set(made.backbones)


@pytest.mark.parametrize(
    ("backbones", "words"),
    [
        ({"rl": {"rlvr": {"from": "base", "checkpoints": [20, 10]}}}, "distinct steps in rising order"),
        ({"rl": {"rlvr": {"from": "base", "checkpoints": [60]}}}, "checkpoint 60 is not before the last step, 60"),
        ({"rl": {"rlvr": {"from": "base", "stop": 61}}}, "stop 61 lies beyond the last step, 60"),
        ({"rl-step10": {"pretrain": {}}}, "backbones.rl-step10: 'rl' has a backbone of this name on its path"),
        ({"a" * 45: {"rlvr": {"from": "base", "checkpoints": [1]}}}, "has more than 48 characters"),
        ({"h": {"hub": "a/b", "checkpoints": {1: "x"}}}, "checkpoints need `step`"),
        ({"h": {"hub": "a/b", "checkpoints": {1: "x"}, "step": 1}}, "checkpoints need `step`"),
        ({"p": {"path": "c-{step}", "checkpoints": [1]}}, r"a path with \{step\} needs `checkpoints`"),
        ({"m": {"merge": {"of": ["base", "rl"], "alphas": [0.1234567, 0.1234568]}}}, "equal to six digits"),
        ({"m": {"merge": {"of": ["base", "rl"], "alphas": [0.5]}}}, "alphas are distinct values other than"),
        ({"u": {"untrained": {"like": "base"}, "embed": "all"}}, "embed belongs to hub, path, pretrain"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_series_is_an_error(backbones, words):
    with pytest.raises(StudyError, match=words):
        with_backbones(**backbones)
