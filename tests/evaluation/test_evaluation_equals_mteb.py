"""Our scores are mteb's: the same model through SentenceTransformer and mteb alone gives them too."""

import json
import shutil
from collections import defaultdict

import mteb
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata
from sentence_transformers import SentenceTransformer

from realign.artifacts.command import execute
from realign.artifacts.store import WorkStore
from realign.evaluation.commands import EVALUATE
from realign.study.evaluation import TASK_FILES, EvaluateTask

OPTIONS = {"clustering": {"max_documents_per_cluster": 64}, "classification": {"n_experiments": 3}}


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def direct_task(kind, folder):
    """The same task, written by hand as a user of mteb would write it."""
    base, name, metric = {
        "retrieval": (AbsTaskRetrieval, "Retrieval", "ndcg_at_10"),
        "reranking": (AbsTaskRetrieval, "Reranking", "map_at_1000"),
        "sts": (AbsTaskSTS, "STS", "cosine_spearman"),
        "pair_classification": (AbsTaskPairClassification, "PairClassification", "max_ap"),
        "classification": (AbsTaskClassification, "Classification", "accuracy"),
        "clustering": (AbsTaskClustering, "Clustering", "v_measure"),
    }[kind]

    class Direct(base):
        metadata = TaskMetadata(
            name="Direct",
            description="by hand",
            dataset={"path": "direct", "revision": "1"},
            type=name,
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score=metric,
        )

        def load_data(self, **_):
            self.dataset = load(kind, folder)
            self.data_loaded = True

    for option, value in OPTIONS.get(kind, {}).items():
        setattr(Direct, option, value)
    if kind == "clustering":
        Direct.max_fraction_of_documents_to_embed = None
        Direct.input_column_name, Direct.label_column_name = "text", "label"
    if kind == "pair_classification":
        Direct.label_column_name = "label"
    return Direct()


def load(kind, folder):
    if kind == "retrieval":
        relevant = defaultdict(dict)
        for row in rows(folder / "qrels.jsonl"):
            relevant[row["query"]][row["doc"]] = row["score"]
        corpus, queries, ranked = rows(folder / "corpus.jsonl"), rows(folder / "queries.jsonl"), None
    elif kind == "reranking":
        corpus, queries, relevant, ranked = [], [], {}, {}
        for n, row in enumerate(rows(folder / "test.jsonl")):
            queries.append({"id": f"q{n}", "text": row["query"]})
            texts = [(t, 1) for t in row["positive"]] + [(t, 0) for t in row["negative"]]
            corpus += [{"id": f"q{n}-{i}", "text": t} for i, (t, _) in enumerate(texts)]
            relevant[f"q{n}"] = {f"q{n}-{i}": s for i, (_, s) in enumerate(texts)}
            ranked[f"q{n}"] = list(relevant[f"q{n}"])
    else:
        return DatasetDict({p.stem: Dataset.from_list(rows(p)) for p in folder.glob("*.jsonl")})
    split = {
        "corpus": Dataset.from_list([{**row, "title": ""} for row in corpus]),
        "queries": Dataset.from_list(queries),
        "relevant_docs": dict(relevant),
        "top_ranked": ranked,
    }
    return {"default": {"test": split}}


def evaluated(model, kind, folder, tmp_path, **settings):
    names = {"scores": "scores.json", "record": "record.json", "queries": "queries.parquet"}
    places = {output: tmp_path / name for output, name in names.items()}
    data = [folder / f"{role}.jsonl" for role in TASK_FILES[kind]]
    asked = EvaluateTask(
        task=kind, type=kind, languages=["eng-Latn"], options=OPTIONS.get(kind, {}), **settings
    )
    execute(EVALUATE, asked, {"model": model, "data": data}, places, WorkStore(tmp_path / "store"))
    return json.loads(places["scores"].read_text()), json.loads(places["record"].read_text())


@pytest.mark.parametrize("kind", list(TASK_FILES))
def test_every_number_of_every_type_is_mtebs_own(kind, embedder, tasks, tmp_path):
    ours, _ = evaluated(embedder, kind, tasks / kind, tmp_path)
    model = SentenceTransformer(str(embedder), device="cpu")
    result = mteb.evaluate(model, direct_task(kind, tasks / kind), cache=None, co2_tracker=False)
    expected = result.task_results[0].scores["test"][0]
    got = ours["scores"]["test"][0]
    numbers = {k for k, v in expected.items() if isinstance(v, float) and not np.isnan(v)}
    assert got["main_score"] == pytest.approx(expected["main_score"], abs=1e-6)
    assert {k: got[k] for k in numbers} == pytest.approx({k: expected[k] for k in numbers}, abs=1e-6)
    assert 0.05 < got["main_score"] <= 1.0
    queries = pd.read_parquet(tmp_path / "queries.parquet")
    assert list(queries) == ["split", "subset", "query", "metric", "value"]
    if kind not in ("retrieval", "reranking"):
        assert queries.empty
        return
    asked = load(kind, tasks / kind)["default"]["test"]["queries"]["id"]
    for metric in {"ndcg_at_10", direct_task(kind, tasks / kind).metadata.main_score}:
        own = queries[queries.metric == metric]
        assert sorted(own["query"]) == sorted(asked)
        assert own.value.nunique() > 1
        assert own.value.mean() == pytest.approx(expected[metric], abs=1e-5)  # mteb rounds to 5 digits


def test_the_result_is_mtebs_file_and_reads_back(embedder, tasks, tmp_path):
    evaluated(embedder, "sts", tasks / "sts", tmp_path)
    read = mteb.TaskResult.from_disk(tmp_path / "scores.json")
    assert read.task_name == "sts"
    assert read.get_score() == pytest.approx(read.scores["test"][0]["main_score"])


def test_an_instruction_reaches_the_vectors_as_sentence_transformers_applies_it(embedder, tasks, tmp_path):
    template = "Instruct: {instruction}\nQuery: "
    ours, record = evaluated(
        embedder,
        "retrieval",
        tasks / "retrieval",
        tmp_path,
        instructions="task",
        template=template,
        instruction={"query": "Find the text that goes on like this"},
    )
    prompt = template.replace("{instruction}", "Find the text that goes on like this")
    assert record["prompts"] == {"query": prompt, "document": ""}
    model = SentenceTransformer(str(embedder), device="cpu", prompts={"query": prompt, "document": ""})
    result = mteb.evaluate(
        model, direct_task("retrieval", tasks / "retrieval"), cache=None, co2_tracker=False
    )
    expected = result.task_results[0].scores["test"][0]["main_score"]
    assert ours["scores"]["test"][0]["main_score"] == pytest.approx(expected, abs=1e-6)
    bare, _ = evaluated(embedder, "retrieval", tasks / "retrieval", tmp_path, instructions="none")
    assert bare["scores"]["test"][0]["ndcg_at_10"] != ours["scores"]["test"][0]["ndcg_at_10"]


def test_an_untrained_backbone_is_evaluated_by_pooling(backbone, embedder, tasks, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    pooled, _ = evaluated(backbone, "sts", tasks / "sts", tmp_path / "a")
    exported, _ = evaluated(embedder, "sts", tasks / "sts", tmp_path / "b")
    assert pooled["scores"]["test"][0]["main_score"] == pytest.approx(
        exported["scores"]["test"][0]["main_score"], abs=1e-6
    )


def test_titles_go_before_their_texts_as_in_mteb(embedder, tasks, tmp_path):
    titles = shutil.copytree(tasks / "retrieval", tmp_path / "titles")
    joined = shutil.copytree(tasks / "retrieval", tmp_path / "joined")
    passages = rows(tasks / "retrieval/corpus.jsonl")
    for folder, told in (
        (titles, [{**p, "title": p["id"]} for p in passages]),
        (joined, [{**p, "text": f"{p['id']} {p['text']}"} for p in passages]),
    ):
        (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    scores = [evaluated(embedder, "retrieval", f, tmp_path)[0]["scores"] for f in (titles, joined)]
    assert scores[0] == scores[1]
    assert scores[0] != evaluated(embedder, "retrieval", tasks / "retrieval", tmp_path)[0]["scores"]


@pytest.mark.parametrize("kind", ["sts", "retrieval"])
def test_the_prompts_a_directory_carries_are_applied_as_mteb_applies_them(kind, embedder, tasks, tmp_path):
    """A default for texts of no kind, and an empty prompt that stands before a more general one."""
    folder = shutil.copytree(embedder, tmp_path / "model")
    about = folder / "config_sentence_transformers.json"
    prompts = {"STS-query": "", "Retrieval": "moon ", "Retrieval-document": "", "ask": "oak wave star "}
    content = json.loads(about.read_text()) | {"prompts": prompts, "default_prompt_name": "ask"}
    about.write_text(json.dumps(content))
    ours, record = evaluated(folder, kind, tasks / kind, tmp_path)
    model = SentenceTransformer(str(folder), device="cpu")
    result = mteb.evaluate(model, direct_task(kind, tasks / kind), cache=None, co2_tracker=False)
    expected = result.task_results[0].scores["test"][0]["main_score"]
    assert ours["scores"]["test"][0]["main_score"] == pytest.approx(expected, abs=1e-6)
    own = {"sts": {"text": "oak wave star "}, "retrieval": {"query": "moon ", "document": ""}}
    assert record["prompts"] == own[kind]
