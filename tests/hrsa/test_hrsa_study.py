"""Which measures a study makes, and what each of its jobs is told."""

from itertools import permutations

import pytest

from realign.plan.comparisons import comparisons
from realign.plan.describe import describe
from realign.study.errors import StudyError
from realign.study.load import parse_study


def study(**more):
    content = {
        "study": {"name": "made", "seeds": [0, 1]},
        "backbones": {n: {"path": f"models/{n}"} for n in ("base", "rl", "blank")},
        "pairs": [
            {"left": "base", "right": "rl", "kind": "rlvr", "tags": ["prolonged"]},
            {"left": "base", "right": "blank", "kind": "control", "tags": ["untrained"], "embed": False},
        ],
        "recipes": {"full": {"checkpoints": [5]}},
    }
    return parse_study(content | more)


def files(s, **equal):
    """The files of measures that a study makes, as its description has them."""
    return [p for p in describe(s).parts_of("measures") if all(getattr(p, k) == v for k, v in equal.items())]


def test_backbones_are_compared_on_all_corpora_in_both_modes_and_embedders_in_their_own():
    s = study()
    backbones = files(s, pair="base--vs--rl", stage="backbone", family="linear")
    assert {(u.corpus, u.attention) for u in backbones} == {
        (c, a) for c in ("reasoning", "docs") for a in ("bidirectional", "causal")
    }
    embedders = files(s, pair="base--vs--rl", stage="embedder", family="linear")
    assert {u.path for u in embedders} == {
        f"measures/base+full+s{n}--vs--rl+full+s{n}/{c}+bidirectional.linear.parquet"
        for c in ("reasoning", "docs")
        for n in (0, 1)
    }


def test_checkpoints_and_controls_use_the_main_corpus():
    s = study(hrsa={"corpora": ["docs", "reasoning"]})
    for about in ({"stage": "checkpoint"}, {"kind": "control"}):
        found = files(s, **about)
        assert found
        of_states = {(u.corpus, u.attention) for u in found if u.family not in ("weights", "behaviour")}
        assert of_states == {("docs", "bidirectional")}


def test_every_floor_is_there():
    controls = {c.tags: c for c in comparisons(study()) if c.kind == "control"}
    assert set(controls) == {
        ("untrained",),
        ("shuffled",),
        ("shuffled_in_texts",),
        ("rotated",),
        ("seeds",),
        ("crossed",),
    }
    assert controls["shuffled",].name == "base--vs--shuffled"
    assert controls["shuffled",].models == ("base", "base")


def test_seeds_are_crossed_for_the_measures_that_claims_judge_against_their_noise():
    s = study(study={"name": "made", "seeds": [0, 1, 2]})
    crossed = files(s, pair="base--vs--rl-crossed")
    assert {(u.path.split("/")[1], u.family, u.kind) for u in crossed} == {
        (f"base+full+s{i}--vs--rl+full+s{j}", "neighbours", "control") for i, j in permutations(range(3), 2)
    }
    within = {u.path.split("/")[1]: set() for u in files(s, pair="base-seeds")}
    for unit in files(s, pair="base-seeds"):
        within[unit.path.split("/")[1]].add(unit.family)
    assert within.pop("base+full+s0--vs--base+full+s1") > {"linear", "neighbours"}
    assert within == {f"base+full+s{i}--vs--base+full+s2": {"neighbours"} for i in (0, 1)}
    assert files(study(claims={"paper": False}), pair="base--vs--rl-crossed") == []


def test_each_unit_has_a_path_and_a_context_of_its_own():
    s = study()
    everything = files(s)
    assert len({u.path for u in everything}) == len(everything)
    (unit,) = files(s, stage="checkpoint", family="neighbours")
    assert unit.path == (
        "measures/base+full+s0+step5--vs--rl+full+s0+step5/reasoning+bidirectional.neighbours.parquet"
    )
    (comparison,) = (c for c in comparisons(s) if c.stage == "checkpoint")
    context = comparison.context("made", unit.corpus)
    assert (context.step, context.recipe, context.tags) == (5, "full", ("prolonged",))
    job = s.hrsa.job("neighbours", context, 3)
    assert (job.k, job.seed, job.context.pair) == ((5, 10, 50), 3, "base--vs--rl")


def test_families_can_be_chosen_and_probes_need_labels():
    assert {u.family for u in files(study(hrsa={"families": ["linear"]}))} == {"linear"}
    assert files(study(hrsa={"families": []})) == []
    plain = {"probes": {"mine": {"file": "texts.jsonl"}}}
    weights = {"weights", "survival"}  # which have no corpus
    assert {u.family for u in files(study(text=plain))} == {
        "linear", "neighbours", "extra", "behaviour",
    } | weights  # fmt: skip


def test_survival_reads_both_origins_and_another_seed():
    made = comparisons(study())
    survivals = {c.name: c.other_seed for c in made if "survival" in c.files}
    assert survivals == {
        "base+full+s0--vs--rl+full+s0": "base+full+s1",
        "base+full+s1--vs--rl+full+s1": "base+full+s0",
    }
    third = study(study={"name": "made", "seeds": [0, 1, 2]})
    by_name = {c.name: c.other_seed for c in comparisons(third)}
    assert {name: by_name[name] for name in survivals} == survivals  # one seed more changes no other job
    assert by_name["base+full+s2--vs--rl+full+s2"] == "base+full+s0"
    one_seed = study(study={"name": "made", "seeds": [0]})
    assert [c.other_seed for c in comparisons(one_seed) if "survival" in c.files] == [""]
    weights = {(c.stage, c.kind) for c in made if "weights" in c.files}
    assert weights == {
        ("backbone", "rlvr"), ("backbone", "control"), ("embedder", "rlvr"), ("embedder", "control"),
    }  # fmt: skip


def test_a_corpus_without_tokens_serves_probes_alone():
    s = study(states={"corpora": {"docs": {"tokens": {"count": 0}}}})
    assert {u.family for u in files(s) if u.corpus == "docs"} == {"probe"}
    assert {u.family for u in files(s) if u.corpus == "reasoning"} == {
        "linear", "neighbours", "probe", "extra", "behaviour",
    }  # fmt: skip


def test_behaviour_is_of_backbones_with_causal_attention():
    found = {(u.pair, u.corpus, u.attention) for u in files(study(), family="behaviour")}
    main = [*(f"base-{floor}" for floor in ("shuffled", "shuffled_in_texts", "rotated")), "base--vs--blank"]
    assert found == {(pair, "reasoning", "causal") for pair in main} | {
        ("base--vs--rl", corpus, "causal") for corpus in ("reasoning", "docs")
    }
    assert not files(study(hrsa={"backbone_attention": ["bidirectional"]}), family="behaviour")
    assert not files(study(hrsa={"alignment": "offsets"}), family="behaviour")  # of unlike tokenizers


def test_mistakes_in_the_section_are_told():
    with pytest.raises(
        StudyError, match=r"hrsa.corpora\[0\]: no probe corpus 'dcos' \(did you mean 'docs'\?\)"
    ):
        study(hrsa={"corpora": ["dcos"]})
    with pytest.raises(StudyError, match=r"hrsa\.groups: .* greater than or equal to 5 \(got 4\)"):
        study(hrsa={"groups": 4})  # too few for the debiased CKA's interval
    with pytest.raises(StudyError, match="k: give distinct sizes"):
        study(hrsa={"neighbours": {"k": [10, 5]}})
    with pytest.raises(StudyError, match=r"backbones\.shuffled: the name stands for a floor"):
        study(
            backbones={n: {"path": n} for n in ("base", "rl", "blank", "shuffled")},
        )
