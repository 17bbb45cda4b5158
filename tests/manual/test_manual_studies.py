"""The studies that people will run say what the paper says, and can be planned on any machine."""

from pathlib import Path

import pandas as pd
import pytest

from realign.plan.targets import embedders
from realign.results.published import FOLDER
from realign.runs.dag import planned_jobs
from realign.runs.flow import Flow
from realign.study.load import load_study

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


@pytest.fixture(scope="module")
def paper():
    return load_study(ROOT / "studies" / "paper.yaml")


def published(name):
    return pd.read_csv(FOLDER / f"{name}.csv", dtype=str)


def hub_pairs(study, pairs):
    ids = {name: backbone.hub for name, backbone in study.backbones.items()}
    return {(pair.kind, ids[pair.left], ids[pair.right]) for pair in pairs}


def plain(name):
    return "".join(c for c in name.lower() if c.isalnum())


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_sound(path):
    assert load_study(path).study.name == path.stem


def test_the_pairs_are_those_of_tables_9_and_10(paper):
    backbones = set(published("backbones")[["kind", "left", "right"]].itertuples(index=False, name=None))
    embedded = set(published("embedders")[["kind", "left", "right"]].itertuples(index=False, name=None))
    assert hub_pairs(paper, paper.pairs) == backbones | embedded
    assert hub_pairs(paper, [pair for pair in paper.pairs if pair.embed]) == embedded
    # eleven trainings, since one backbone stands in two pairs
    assert len({e.backbone for e in embedders(paper) if e.recipe == "full"}) == 11


def test_table_7_stands_there_twice_released_and_raw(paper):
    wanted = {plain(name) for name in published("datasets")["dataset"]}
    raw = {name for name, dataset in paper.data.datasets.items() if dataset.mined}
    released = {name for name, dataset in paper.data.datasets.items() if not dataset.mined}
    assert {plain(name) for name in raw} == wanted
    assert {name.removesuffix("-released") for name in released} == raw
    assert all(paper.data.datasets[name].columns for name in raw)
    assert all(paper.data.datasets[name].instruction for name in raw)
    assert set(paper.recipes["full"].datasets) == set(paper.recipes["lora"].datasets) == released
    assert set(paper.recipes["remined"].datasets) == raw


def test_the_recipe_is_that_of_table_5(paper):
    recipe = paper.recipes["full"].model_dump(mode="json")
    said = {"pooling": paper.embedder.pooling, "attention": paper.embedder.attention}
    assumed = {"steps": None, "precision": "auto"}  # 782 follow from the data; bf16 is what GPUs get
    not_set = {"samples", "optimizer", "padding"}  # follow from the data and the code, not from a setting
    for keys, cell in published("recipe")[["keys", "value"]].itertuples(index=False, name=None):
        if keys in not_set:
            continue
        value = cell.removesuffix(" (code)")
        found = {**recipe, **said}
        for key in keys.split("."):
            found = found[key]
        if keys.split(".")[-1] in assumed:
            assert found == assumed[keys.split(".")[-1]]
        elif keys == "checkpoints":
            assert found == [int(step) for step in value.split(",")]
        elif keys == "lora":
            assert found is None
        else:
            assert str(found) == value or float(found) == float(value), keys


def test_table_6_is_two_models_one_training_each(paper):
    models = set(published("adapters")["backbone"])
    trained = [e for e in embedders(paper) if e.recipe == "lora"]
    assert {paper.backbones[e.backbone].hub for e in trained} == models
    assert len(trained) == 2


def test_benchmarks_corpora_and_their_sizes_are_the_papers(paper):
    assert set(paper.evaluation.benchmarks) == set(published("benchmarks")["benchmark"])
    assert {name: probe.limit for name, probe in paper.text.probes.items()} == {
        "cot": 57, "mmlu-pro": 1400, "ag-news": 7600,
    }  # fmt: skip
    assert len(paper.traces.released) == 3


def test_what_is_not_pinned_says_so():
    """Whoever reads the file sees at once which revisions are open."""
    lines = (ROOT / "studies" / "paper.yaml").read_text(encoding="utf-8").splitlines()
    backbones = lines[lines.index("backbones:") + 1 : lines.index("pairs:")]
    for i, line in enumerate(backbones):
        if "{hub:" in line and "revision" not in line:
            assert "#" in line, line
        if line.strip().startswith("hub:"):
            assert "revision:" in backbones[i + 1], line


def jobs_of(path, folder):
    return planned_jobs(ROOT / "Snakefile", folder, path)


def test_the_small_study_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rules = {job.rule for job in jobs_of(ROOT / "studies" / "paper-small.yaml", tmp_path)}
    assert {"fetch_hub", "extract", "hrsa_linear", "hrsa_neighbours", "hrsa_probe", "table_12"} <= rules
    assert not rules & {
        "train",
        "mine",
        "evaluate",
        "evaluate_warm",
        "pretrain",
        "sft",
        "rlvr",
        "corpora",
        "problems",
    }


@pytest.mark.slow
def test_the_paper_study_is_planned_offline(tmp_path, monkeypatch, paper):
    monkeypatch.chdir(tmp_path)
    jobs = jobs_of(ROOT / "studies" / "paper.yaml", tmp_path)
    trained = {
        job.wildcards["backbone"] + "+" + job.wildcards["recipe"] for job in jobs if job.rule == "train"
    }
    assert trained == {f"{e.backbone}+{e.recipe}" for e in embedders(paper)}
    assert {f"figure_{i}" for i in range(1, 14)} | {f"table_{i}" for i in range(1, 14)} <= {
        j.rule for j in jobs
    }


def test_the_studys_gpu_time_is_stated_for_every_rule_that_needs_a_gpu(paper):
    asked = {rule: own for rule, own in paper.resources.rules.items() if own.gpus}
    assert set(asked) >= {"train", "mine", "extract", "evaluate", "evaluate_warm"}
    assert all(own.usual_hours and own.usual_hours <= own.hours for own in asked.values())
    assert Flow(paper).results == "results/paper"
