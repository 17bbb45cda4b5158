"""Means: what mteb's own results say, and never one over a hole."""

import json

import pandas as pd
import pytest

from realign.artifacts.command import UserError, execute
from realign.artifacts.store import WorkStore
from realign.evaluation.aggregates import Entry, TaskScores, benchmark_means, holes
from realign.evaluation.commands import COLLECT_SCORES
from realign.results.tidy import read_table
from realign.study.evaluation import BenchmarkPart, CollectScores

WHOLE = BenchmarkPart()


def scored(task, kind, values, domains=()):
    entries = tuple(Entry(split, subset, v, (language,)) for split, subset, language, v in values)
    return TaskScores(task, kind, entries, tuple(domains))


A = scored("A", "STS", [("test", "en", "eng-Latn", 0.8), ("test", "de", "deu-Latn", 0.4)], ["News"])
B = scored("B", "STS", [("validation", "default", "eng-Latn", 0.2), ("test", "default", "eng-Latn", 0.6)])
C = scored("C", "Retrieval", [("test", "default", "eng-Latn", 0.1)], ["News", "Web"])
THERE = {s.task: s for s in (A, B, C)}
PARTS = dict.fromkeys("ABC", WHOLE)


def means(*args, **options):
    return {(m.metric, m.task_type, m.subset): m.value for m in benchmark_means(*args, **options)}


def test_means_over_tasks_types_languages_and_domains():
    got = means(PARTS, THERE)
    assert got[("mean_over_tasks", "", "")] == pytest.approx((0.6 + 0.4 + 0.1) / 3)
    assert got[("mean_of_type", "STS", "")] == pytest.approx(0.5)
    assert got[("mean_over_types", "", "")] == pytest.approx((0.5 + 0.1) / 2)
    assert got[("mean_of_language", "", "deu-Latn")] == pytest.approx(0.4)
    assert got[("mean_of_language", "", "eng-Latn")] == pytest.approx((0.8 + 0.4 + 0.1) / 3)
    assert got[("mean_of_domain", "", "News")] == pytest.approx((0.6 + 0.1) / 2)


def test_a_missing_task_leaves_no_mean_at_all():
    assert holes(PARTS, {"A": A, "C": C}) == ["B"]
    assert means(PARTS, {"A": A, "C": C}) == {}
    assert means(PARTS, {"A": A, "C": C}, over_present=True)[("mean_over_tasks", "", "")] == pytest.approx(
        0.35
    )


def test_a_missing_split_or_subset_is_a_hole_too():
    parts = PARTS | {"A": BenchmarkPart(subsets=["en", "fr"])}
    assert holes(parts, THERE) == ["A"]
    assert holes(PARTS | {"B": BenchmarkPart(splits=["dev"])}, THERE) == ["B"]
    only_german = PARTS | {"A": BenchmarkPart(subsets=["de"])}
    assert means(only_german, THERE)[("mean_over_tasks", "", "")] == pytest.approx((0.4 + 0.4 + 0.1) / 3)


def test_the_first_split_only_habit():
    assert means(PARTS, THERE, first_split_only=True)[("mean_over_tasks", "", "")] == pytest.approx(
        (0.6 + 0.2 + 0.1) / 3
    )


def write(folder, task, values, preset=""):
    """A score file as mteb writes it, and our record beside it."""
    scores = {}
    for split, subset, value in values:
        scores.setdefault(split, []).append(
            {"main_score": value, "accuracy": value, "hf_subset": subset, "languages": ["eng-Latn"]}
        )
    name = f"{task}-{preset}" if preset else task
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"task_name": task, "scores": scores}))
    record = {"task": task, "task_type": "STS", "metric": "accuracy", "domains": [], "preset": preset}
    record |= {"mteb_version": "2", "dataset_revision": "r", "prompt_hash": f"h{preset}"}
    (folder / f"{name}.record.json").write_text(json.dumps(record))
    queries = pd.DataFrame({"split": "test", "subset": "x", "query": ["q1", "q2"], "metric": "ndcg_at_10"})
    queries.assign(value=[0.0, 1.0]).to_parquet(folder / f"{name}.parquet")
    return folder / f"{name}.json", folder / f"{name}.record.json"


def collect(tmp_path, pairs, benchmarks, **options):
    places = {
        "table": tmp_path / "t.parquet",
        "holes": tmp_path / "h.json",
        "by_query": tmp_path / "q.parquet",
    }
    asked = CollectScores(study="s", model="base+full+s1", benchmarks=benchmarks, **options)
    inputs = {"scores": [a for a, _ in pairs], "records": [b for _, b in pairs]}
    inputs["queries"] = [a.with_suffix(".parquet") for a, _ in pairs]
    execute(COLLECT_SCORES, asked, {k: v for k, v in inputs.items() if v}, places, WorkStore(tmp_path / "w"))
    return pd.read_parquet(places["table"]), json.loads(places["holes"].read_text())["base+full+s1"]


def test_the_table_says_who_and_what(tmp_path):
    pairs = [
        write(tmp_path / "in", "A", [("test", "default", 0.5)]),
        write(tmp_path / "in", "B", [("test", "x", 0.7)]),
    ]
    table, gone = collect(tmp_path, pairs, {"mine": {"A": {}, "B": {}}})
    assert gone == {}
    one = table[(table.task == "A") & (table.metric == "main_score")].iloc[0]
    assert (one.embedder, one.backbone, one.recipe, one.seed) == ("base+full+s1", "base", "full", 1)
    assert (one.benchmark, one.split, one.subset, one.value) == ("mine", "test", "default", 0.5)
    assert (one.mteb_version, one.dataset_revision, one.prompt_hash) == ("2", "r", "h")
    assert pd.isna(one.step)
    assert table[table.metric == "mean_over_tasks"].value.item() == pytest.approx(0.6)
    assert table.value.notna().all()
    queries = read_table("queries", [tmp_path / "q.parquet"])
    assert list(queries.task) == ["A", "A", "B", "B"]
    assert list(queries.value) == [0.0, 1.0, 0.0, 1.0]
    assert set(queries.embedder) == {"base+full+s1"}


def test_a_hole_stops_the_table_and_is_listed_by_the_partial_one(tmp_path):
    pairs = [write(tmp_path / "in", "A", [("test", "default", 0.5)])]
    benchmarks = {"mine": {"A": {}, "B": {}}, "other": {"A": {}}}
    with pytest.raises(UserError, match=r"(?s)no mean is made over holes.*mine: B"):
        collect(tmp_path, pairs, benchmarks)
    assert not (tmp_path / "t.parquet").exists()
    table, gone = collect(tmp_path, pairs, benchmarks, partial=True)
    assert gone == {"mine": ["B"]}
    told = table[table.metric == "mean_over_tasks"]
    assert list(told.benchmark) == ["other"]
    table, _ = collect(tmp_path, pairs, benchmarks, partial=True, mean_over_present=True)
    both = table[(table.metric == "mean_over_tasks") & (table.benchmark == "mine")]
    assert list(both.preset) == ["mean_over_present"]


def test_published_habits_stand_beside_ours(tmp_path):
    pairs = [
        write(tmp_path / "in", "A", [("validation", "default", 0.1), ("test", "default", 0.5)]),
        write(
            tmp_path / "in",
            "A",
            [("validation", "default", 0.2), ("test", "default", 0.9)],
            "one_bright_instruction",
        ),
    ]
    table, _ = collect(
        tmp_path,
        pairs,
        {"BRIGHT": {"A": {}}},
        presets=["one_bright_instruction"],
        first_split_only=True,
    )
    told = table[table.metric == "mean_over_tasks"].set_index("preset").value
    assert told.to_dict() == pytest.approx(
        {
            "": 0.3,
            "first_split_only": 0.1,
            "one_bright_instruction": 0.55,
            "one_bright_instruction+first_split_only": 0.2,
        }
    )


@pytest.mark.parametrize("content", ["{", '{"task_name": "A"}', '{"task_name": "Z", "scores": {}}'])
def test_a_damaged_score_file_is_named(tmp_path, content):
    pair = write(tmp_path / "in", "A", [("test", "default", 0.5)])
    pair[0].write_text(content)
    with pytest.raises(UserError, match=r"A\.json"):
        collect(tmp_path, [pair], {"mine": {"A": {}}})
