"""What a user is told about a broken study: the file, the place, and what would do."""

import pytest
import yaml
from pydantic import ValidationError

from realign.names import EmbedderId
from realign.study.base import MAX_SEED
from realign.study.errors import StudyError
from realign.study.load import load_study, overlay
from realign.study.project import Project
from realign.study.recipe import Recipe
from realign.study.resources import Resources

GOOD = {
    "study": {"name": "mine", "seeds": [0, 1]},
    "backbones": {"base": {"hub": "a/base"}, "tuned": {"hub": "a/tuned"}},
    "pairs": [{"left": "base", "right": "tuned", "kind": "rlvr"}],
}


def told(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert str(caught.value).startswith(str(path))
    return caught.value.problems


LEVEL = {"statistic": "level", "measure": "cka", "rule": "above", "threshold": 0.9}


def changed(**changes):
    return overlay(GOOD, changes)


def test_the_good_study_is_good(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    assert load_study(path).pairs[0].name == "base--vs--tuned"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (changed(studdy={}), "studdy: unknown key (did you mean 'study'?)"),
        (changed(study={"seedz": [1]}), "study.seedz: unknown key (did you mean 'seed'?)"),
        (changed(study={"seed": "many"}), "study.seed: input should be a valid integer"),
        (changed(backbones={"base": {"hub": None, "path": ""}}), "backbones.base: path is empty"),
        (changed(data={"datasets": {"nli": {"file": ""}}}), "data.datasets.nli: file is empty"),
        (changed(study={"seed": -1}), "study.seed: input should be greater than or equal to 0 (got -1)"),
        (changed(study={"seed": True}), "study.seed: input should be a number (got true)"),
        (changed(study={"seeds": [5, True]}), "study.seeds[1]: input should be a number (got true)"),
        (
            changed(resources={"rules": {"train": {"hours": True}}}),
            "resources.rules.train.hours: input should be a number (got true)",
        ),
        (changed(study={"name": "n" * 49}), "study.name: string should have at most 48 characters"),
        (changed(study={"name": "../etc"}), "study.name: '../etc' is not safe as a name"),
        (changed(backbones={"a b": {"hub": "x/y"}}), "backbones.a b: 'a b' is not safe as a name"),
        (
            changed(figures={"style": {"palette": {"rlvr": "blue"}}}),
            "figures.style.palette.rlvr: 'blue' is not a colour, such as '#0077BB' (in quotes)",
        ),
        (
            changed(backbones={"base": {"revision": "a b"}}),
            "backbones.base.revision: 'a b' is not a revision: a branch, a tag or a commit",
        ),
        (changed(study={"seeds": 3}), "study.seeds: a list is wanted, such as [3]"),
        (changed(study={"seeds": "0, 1"}), "study.seeds: a list is wanted, such as [0, 1]"),
        (changed(hrsa={"corpora": "docs"}), "hrsa.corpora: a list is wanted, such as [docs]"),
        (
            changed(recipes={"full": {"optimizer": {"betas": 0.9}}}),
            "recipes.full.optimizer.betas: a list of 2 values is wanted (got 0.9)",
        ),
        (
            changed(recipes={"full": {"temperature": 0.1}}),
            "recipes.full.temperature: unknown key (the setting is loss.temperature)",
        ),
        (changed(lexical={}), "lexical: unknown key (the setting is mining.lexical)"),
        (changed(lora={}), "lora: unknown key (known here: backbone_scores, "),  # each recipe's own
        (
            changed(mining={"teacher": {"backbone": "qwen"}}),
            "mining.teacher.backbone: no backbone 'qwen'; declare it under `backbones`",
        ),
        (
            changed(text={"heldout_packages": ["numpyy", "networkx"]}),
            "text.heldout_packages[0]: 'numpyy' is not installed here (did you mean 'numpy'?)",
        ),
        (changed(study={"seeds": [1, 1]}), "study.seeds: a seed is listed twice"),
        (changed(recipes={"full": {"seeds": [1, 1]}}), "recipes.full.seeds: a seed is listed twice"),
        (
            changed(recipes={"full": {"loss": {"guide": {}}}}),
            "recipes.full.loss needs a guide model; name it as recipes.full.guide_model",
        ),
        (
            changed(recipes={"full": {"guide_model": {"path": "x"}}}),
            "recipes.full.guide_model: no loss of the recipe uses it",
        ),
        (
            changed(recipes={"full": {"loss": {"guide": {}}, "guide_model": {"backbone": "bose"}}}),
            "recipes.full.guide_model.backbone: no backbone 'bose' (did you mean 'base'?)",
        ),
        (
            changed(
                backbones={"tuned": {"hub": None, "untrained": {"like": "base"}}},
                recipes={"full": {"loss": {"guide": {}}, "guide_model": {"backbone": "tuned"}}},
            ),
            "recipes.full.guide_model.backbone: 'tuned' is made here and is no sentence-transformers model; name a "
            "hub's that is one, or a folder as guide_model.path",
        ),
        (
            changed(
                data={"datasets": {"nli": {"file": "x"}}},
                recipes={"full": {"batches": {"weights": {"nli": 0}}}},
            ),
            "recipes.full.batches.weights: every dataset has weight 0; leave at least one in",
        ),
        (
            changed(
                data={"datasets": {"nli": {"file": "x"}, "qa": {"file": "y"}}},
                recipes={
                    "full": {
                        "batches": {"weights": {"nli": 0}},
                        "dataset_losses": {"nli": {"guide": {}}},
                        "guide_model": {"path": "x"},
                    }
                },
            ),
            "recipes.full.guide_model: no loss of the recipe uses it",
        ),
        (
            changed(recipes={"full": {"batches": {"weights": {"nli": 2}}}}),
            "recipes.full.batches.weights: no dataset 'nli'",
        ),
        (
            changed(recipes={"full": {"batches": {"negatives": 0}, "loss": {"in_batch_negatives": False}}}),
            "recipes.full: loss compares a query's own passages alone, so batches.negatives is at least 1",
        ),
        (
            changed(recipes={"full": {"seeds": list(range(1_000))}}),
            "recipes.full.seeds: more than 100 seeds are listed (1,000)",
        ),
        (
            changed(pairs=[{"left": "base", "right": "tunde", "kind": "rlvr"}]),
            "pairs[0].right: no backbone 'tunde' (did you mean 'tuned'?)",
        ),
        (changed(pairs=[GOOD["pairs"][0]] * 2), "pairs: 'base--vs--tuned' is listed 2 times"),
        (
            changed(pairs=[{"left": "base", "right": "tuned", "kind": "distiled"}]),
            "pairs[0].kind: there is no such kind of pair (did you mean 'distilled'?) (got 'distiled')",
        ),
        (
            changed(pairs=[{"left": "base", "right": "tuned", "kind": "???"}]),
            "pairs[0].kind: there is no such kind of pair (known here: rlvr, sft, dpo, ",
        ),
        (
            changed(
                claims={
                    "own": {
                        "x": {"says": "x", "tests": [{"statistic": "gain", "rule": "above", "kind": "dop"}]}
                    }
                }
            ),
            "claims.own.x.tests[0].kind: there is no such kind of pair (did you mean 'dpo'?) (got 'dop')",
        ),
        (changed(pairs=[{"left": "base", "kind": "rlvr"}]), "pairs[0].right: missing, and has no default"),
        (
            changed(
                recipes={"full": {"datasets": ["nil"]}},
                data={"datasets": {"nli": {"file": "a.jsonl"}}},
                mining={"lexical": {}},
            ),
            "recipes.full.datasets: no dataset 'nil' (did you mean 'nli'?)",
        ),
        (
            changed(recipes={"full": {"backbones": ["bse"]}}),
            "recipes.full.backbones: 'bse' is in no pair with `embed` (did you mean 'base'?)",
        ),
        (
            changed(resources={"rules": {"train": {"memory_gb": -4}}}),
            "resources.rules.train.memory_gb: input should be greater than 0 (got -4)",
        ),
        (
            changed(resources={"rules": {"train": {"gpu": 1}}}),
            "resources.rules.train.gpu: unknown key (did you mean 'gpus'?)",
        ),
        (
            {
                **GOOD,
                "backbones": {
                    "base": {"pretrain": {"tokenizer": {"vocabulary": 500}}},
                    "other": {"pretrain": {}},
                    "tuned": {"rlvr": {"from": "other"}},
                },
            },
            "pairs[0]: 'base' and 'tuned' are made with different tokenizers",
        ),
        (
            changed(evaluation={"tasks": ["Letters"]}),
            "evaluation.tasks: a mapping is wanted, such as {a-name: {type: …}} (got a list)",
        ),
        (
            changed(recipes=["full"]),
            "recipes: a mapping is wanted, such as {a-name: {seeds: …}} (got a list)",
        ),
        (changed(mining=["lexical"]), "mining: a mapping is wanted, such as {"),
        (changed(text={"problems": {"tasks": ["sum"]}}), "such as {key: value} (got a list)"),
        (
            changed(pairs=[], recipes={"lora": {"backbones": ["base"]}}),
            "pairs: none is listed, so recipes.lora trains nothing; list the backbones",
        ),
        (
            changed(
                claims={
                    "own": {
                        "geometry": {"says": "s", "tests": [LEVEL]},
                        "geometry_causal": {"says": "s", "tests": [LEVEL]},
                    }
                }
            ),
            "claims.own.geometry_causal: the tests of 'geometry' with causal attention have this name; choose another",
        ),
        ("study: {name: a}\nstudy: {name: b}\n", "'study' is given twice, on lines 1 and 2"),
        (
            changed(resources={"rules": {"trian": {}}}),
            "resources.rules.trian: no rule 'trian' (did you mean 'train'?)",
        ),
        (changed(resources={"backbones": {"bsae": {}}}), "no backbone 'bsae' (did you mean 'base'?)"),
        (
            changed(resources={"rules": {"extract": {"nodes": 2}}}),
            "resources.rules.extract.nodes: only train works on several nodes",
        ),
        ("? [a]\n: 1\n", "not usable as YAML"),
        ("study: 2024-13-45\n", "not usable as YAML"),
        ("study: [\n", "line 2, column 1: "),
        ("- just\n- a list\n", "a study is a mapping of sections"),
    ],
)
def test_each_mistake_is_told_with_its_place(tmp_path, content, expected):
    problems = told(tmp_path, content)
    assert any(expected in problem for problem in problems), problems


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path):
    content = changed(study={"name": "a b", "seed": -1}, colour="red", resources={"rulez": {}})
    problems = told(tmp_path, content)
    assert len(problems) == 4


def test_what_spans_sections_is_told_beside_what_is_wrong_within_one(tmp_path):
    content = changed(
        study={"seed": "many"},
        pairs=[{"left": "base", "right": "tunde", "kind": "rlvr"}],
        recipes={"full": {"datasets": ["nil"]}},
        data={"datasets": 3},
        resources={"rules": {"trian": {}, "train": {"hours": True}}},
    )
    problems = told(tmp_path, content)
    starts = ("study.seed:", "data.datasets:", "pairs[0].right: no backbone", "resources.rules.trian:",
              "resources.rules.train.hours:")  # fmt: skip
    assert all(any(p.startswith(start) for p in problems) for start in starts), problems
    assert len(problems) == len(starts)  # what a recipe's datasets are is unknown


def test_nothing_is_said_of_names_in_a_section_that_is_wrong(tmp_path):
    problems = told(tmp_path, changed(backbones={"base": {"hub": 3}}))
    assert len(problems) == 1
    assert problems[0].startswith("backbones.base")


@pytest.mark.parametrize(
    "changes",
    [
        {"pairs": [{"left": "base", "right": "tunde", "kind": "rlvr"}]},
        {"pairs": [{"left": "base", "right": "tuned", "kind": "rlrv"}]},
        {"pairs": [{"left": "base", "right": "tuned", "knd": "rlvr"}]},
        {"claims": {"own": {"mine": {"says": "so", "tests": [{"statistic": "lft", "rule": "above"}]}}}},
    ],
)
def test_one_mistake_is_one_problem(tmp_path, changes):
    content = changed(recipes={"full": {"backbones": ["base", "tuned"]}}, **changes)
    assert len(told(tmp_path, content)) == 1


def test_a_default_package_may_be_missing_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("realign.study.text.installed", lambda package: "")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    load_study(path)
    assert len(told(tmp_path, changed(text={"train_packages": ["numpy", "scipy"]}))) == 2


def test_a_mistake_in_a_check_is_not_taken_for_a_section_that_is_lacking(tmp_path, monkeypatch):
    monkeypatch.setattr(Resources, "problems_in", lambda self, study: iter([study.backbones, self.ruels]))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changed(hrsa={"groups": "many"})))
    with pytest.raises(AttributeError, match="ruels"):
        load_study(tmp_path / "mine.yaml")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(StudyError, match="no such file"):
        load_study(tmp_path / "none.yaml")


def test_a_file_that_is_no_text_says_so(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"study: \xff\xfe")
    with pytest.raises(StudyError, match="not UTF-8"):
        load_study(tmp_path / "bytes.yaml")


def test_the_longest_names_still_make_file_names(tmp_path):
    longest = "n" * 48
    models = [str(EmbedderId(longest, longest, MAX_SEED, 9_999_999))] * 2
    folder = tmp_path / "--vs--".join(models)
    folder.mkdir()
    (folder.parent / f".{models[0]}.parquet.provenance.json.4194304").touch()
    with pytest.raises(ValidationError, match=r"a seed is above 999,999,999"):
        Project(name="mine", seeds=(MAX_SEED + 1,))


def test_a_folder_and_a_file_in_another_encoding_are_no_studies(tmp_path):
    with pytest.raises(StudyError, match=r"folder; name the study's file in it"):
        load_study(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("study: {name: café}".encode("latin-1"))
    with pytest.raises(StudyError, match=r"latin\.yaml: .*\n.*byte 17; save the file as UTF-8"):
        load_study(tmp_path / "latin.yaml")


def test_a_datasets_loss_is_the_recipes_but_for_what_it_says():
    recipe = Recipe.model_validate(
        {
            "loss": {"temperature": 0.05, "mask_margin": 0.1},
            "dataset_losses": {"nli": {"in_batch_negatives": False}},
        }
    )
    own = recipe.dataset_losses["nli"]
    assert (own.temperature, own.mask_margin, own.in_batch_negatives) == (0.05, 0.1, False)
    assert Recipe.model_validate(recipe.model_dump()) == recipe
