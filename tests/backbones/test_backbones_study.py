"""The study's section of backbones: one source each, and what a rule's slice holds."""

import pytest
from pydantic import ValidationError

from realign.artifacts.arguments import build_parser
from realign.artifacts.command import Command
from realign.backbones import commands, rlvr
from realign.commands import load_command
from realign.study.backbones import Rlvr, ScoreBackbone, TuningHardware
from realign.study.kinds import KINDS
from realign.study.pairs import Pair
from realign.study.sources import (
    SOURCES,
    Backbone,
    backbone_problems,
    base_of,
    held_out_problems,
    kind_of,
    scored,
)
from realign.text.problems import Problem


def backbones(**sources):
    return {name: Backbone.model_validate(source) for name, source in sources.items()}


TRIPLE = backbones(
    base={"pretrain": {}},
    sft={"sft": {"from": "base"}},
    rlvr={"rlvr": {"from": "base", "optimisation": {"steps": 9}}},
    noise={"untrained": {"like": "base"}},
    teacher={"hub": "org/teacher", "revision": "0" * 40},
    other={"path": "models/other"},
)
PAIRS = (
    Pair(left="base", right="rlvr", kind="rlvr"),
    Pair(left="teacher", right="other", kind="sft"),
)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({}, "got none"),
        ({"hub": "a/b", "path": "x"}, "got hub and path"),
        ({"path": "x", "revision": "main"}, "revision belongs to hub"),
        ({"pypi": "a==1"}, "pypi needs file: The file or folder inside the package"),
        ({"path": "x", "sha256": "0"}, "sha256 belongs to pypi"),
        (
            {"hub": "a/b", "license": "mit"},
            "license belongs to path, gguf, pypi: An imported model's licence",
        ),
        ({"hub": "a b"}, "String should match pattern"),
        ({"hub": "a/b", "revision": "-x; rm"}, "String should match pattern"),
        ({"rlvr": {}}, "Field required"),
        ({"pretrain": {}, "dtype": "bfloat16"}, "dtype belongs to .*, and recipes have `stored`"),
        ({"hub": "a/b", "dtype": "bfloat16"}, "a hub's are kept as they are"),
        ({"pretrain": {"architecture": {"heads": 3, "key_value_heads": 2}}}, "heads must be a multiple"),
        ({"merge": {"of": ["a"]}}, "method linear is of 2 backbones, and `of` names 1"),
        ({"merge": {"of": ["a", "b"], "method": "arithmetic"}}, "arithmetic is of 3 backbones, and"),
        ({"merge": {"of": ["a", "b"], "method": "graft"}}, "method graft needs it"),
        ({"merge": {"of": ["a", "b"], "layers": [1, 2]}}, "method graft needs it"),
        ({"merge": {"of": ["a", "b"], "method": "graft", "layers": [2, 1]}}, "not after the last"),
    ],
)
def test_a_backbone_has_one_sound_source(source, words):
    with pytest.raises(ValidationError, match=words):
        Backbone.model_validate(source)


def test_changing_one_setting_of_a_recipe_keeps_the_others():
    tuned, plain = TRIPLE["rlvr"].recipe, Rlvr()
    assert tuned.optimisation.steps == 9
    assert tuned.optimisation.learning_rate == plain.optimisation.learning_rate
    assert type(tuned) is Rlvr


def test_a_slice_holds_what_decides_the_result_and_nothing_else():
    recipe = TRIPLE["rlvr"].recipe
    faster = recipe.model_copy(update={"hardware": TuningHardware(micro_batch=7, processes=4)})
    assert recipe.as_slice() == faster.as_slice()
    assert "hardware" not in recipe.as_slice()
    assert "from" not in recipe.as_slice()  # the base's content is an input
    assert Rlvr.model_validate(recipe.as_slice()) == recipe


def test_bases_kinds_and_what_is_scored():
    assert [base_of(name, TRIPLE, PAIRS) for name in TRIPLE] == [
        None,
        "base",
        "base",
        "base",
        None,
        "teacher",
    ]
    assert [kind_of(name, TRIPLE, PAIRS) for name in TRIPLE] == [
        "base",
        "sft",
        "rlvr",
        "control",
        "base",
        "sft",
    ]
    assert scored(ScoreBackbone(), TRIPLE, PAIRS) == ["base", "sft", "rlvr", "noise"]
    assert scored(ScoreBackbone(backbones="paired"), TRIPLE, PAIRS) == list(TRIPLE)
    assert scored(ScoreBackbone(backbones="none"), TRIPLE, PAIRS) == []


def test_every_source_that_makes_models_has_a_command_of_its_name():
    makes_here = {name: source.given for name, source in SOURCES.items() if source.makes_here}
    assert {name: load_command(name).settings for name in makes_here} == makes_here
    assert {source.kind for source in SOURCES.values()} <= {"", *KINDS}


def test_missing_parents_and_circles_are_named():
    found = list(backbone_problems(backbones(a={"sft": {"from": "bse"}}, base={"pretrain": {}})))
    assert found == ["backbones.a: made from 'bse', which is no backbone (did you mean 'base'?)"]
    circle = backbones(a={"sft": {"from": "b"}}, b={"rlvr": {"from": "a"}}, c={"sft": {"from": "a"}})
    assert list(backbone_problems(circle)) == [
        "backbones.a: made from itself (a from b from a)",
        "backbones.b: made from itself (b from a from b)",
    ]


def test_perplexity_is_never_measured_on_text_that_was_read():
    own = backbones(base={"pretrain": {"held_out": 0.01}})
    (found,) = held_out_problems(ScoreBackbone(), own)
    assert found.startswith("backbones.base.pretrain.held_out: 0.01 of the text is left out")
    assert not list(held_out_problems(ScoreBackbone(held_out=0.01), own))
    assert not list(held_out_problems(ScoreBackbone(backbones="none"), own))


def test_the_curriculum_lets_levels_in_one_by_one():
    tasks = [
        rlvr.Task(Problem(f"{d}{i}", "q", "1", "", "sum", d), (1,)) for d in (1, 2, 4) for i in range(10)
    ]
    counts = [rlvr.admitted(tasks, step, steps=20, curriculum=0.6) for step in range(20)]
    assert counts == [10] * 4 + [20] * 4 + [30] * 12
    assert rlvr.admitted(tasks, 0, steps=20, curriculum=0.0) == 30


@pytest.mark.parametrize("name", [n for n, value in vars(commands).items() if isinstance(value, Command)])
def test_every_command_has_flags_that_do_not_clash(name):
    assert getattr(commands, name).help in build_parser(getattr(commands, name)).format_help().replace(
        "\n", " "
    )
