"""mteb tasks: its own at their pinned revision, and tasks of one's own made from their files' rows.

A task from files is an ordinary mteb task class with its texts filled in, so that everything that
mteb does with a task of that type (sampling, classifiers, metrics) is done by mteb.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata

from realign.artifacts.command import UserError
from realign.artifacts.hashing import hash_json
from realign.artifacts.manifest import content_hash
from realign.evaluation.task_files import TaskFile
from realign.study.evaluation import TASK_FILES, EvaluateTask, TaskSource

log = logging.getLogger(__name__)

Row = dict[str, Any]
Rows = list[Row]

# What mteb calls each type, its main metric, and its category.
KINDS: dict[str, tuple[type, str, str, str]] = {
    "retrieval": (AbsTaskRetrieval, "Retrieval", "ndcg_at_10", "t2t"),
    "reranking": (AbsTaskRetrieval, "Reranking", "map_at_1000", "t2t"),
    "sts": (AbsTaskSTS, "STS", "cosine_spearman", "t2t"),
    "pair_classification": (AbsTaskPairClassification, "PairClassification", "max_ap", "t2t"),
    "classification": (AbsTaskClassification, "Classification", "accuracy", "t2c"),
    "clustering": (AbsTaskClustering, "Clustering", "v_measure", "t2c"),
}


def build_task(settings: EvaluateTask, data: Sequence[Path]) -> Any:
    """The mteb task that a job evaluates, ready to run."""
    if settings.type is not None:
        return from_files(settings, data)
    task = mteb_task(settings.task, settings.revision, settings.mteb_version, settings.seed)
    if settings.subsets:
        task = task.filter_languages(languages=None, hf_subsets=list(settings.subsets))
    return task.filter_eval_splits(list(settings.splits) or None)


def mteb_task(name: str, revision: str = "", version: str = "", seed: int = 42) -> Any:
    """One of mteb's own tasks, refused where it is not what was planned."""
    if version and version != mteb.__version__:
        raise UserError(
            f"{name}: planned with mteb {version}, and this machine has {mteb.__version__}; "
            "install the same version everywhere and plan again"
        )
    try:
        found = mteb.get_task(name)
    except KeyError:
        raise UserError(f"mteb {mteb.__version__} has no task '{name}'") from None
    here = found.metadata.dataset.get("revision", "")
    if revision and here != revision:
        raise UserError(
            f"{name}: its dataset was planned at revision {revision}, and the installed mteb "
            f"{mteb.__version__} takes {here}; scores of the two are not comparable. Install the mteb "
            "that the plan was made with, or make the lists anew (python -m realign.evaluation.catalogue)"
        )
    return type(found)(seed=seed)


def from_files(source: TaskSource, data: Sequence[Path]) -> Any:
    """A task from local files, one for each role that its type has."""
    assert source.type is not None
    roles = TASK_FILES[source.type]
    if len(data) == 1 and data[0].is_dir():
        data = [data[0] / source.files.get(role, f"{role}.jsonl") for role in roles]
    if len(data) != len(roles):
        raise UserError(
            f"{source.task}: a {source.type} task is made of {len(roles)} files "
            f"({', '.join(roles)}), and {len(data)} were given"
        )
    files = {
        role: TaskFile(source.task, role, path, source.columns.get(role, {}), source.quotes)
        for role, path in zip(roles, data, strict=True)
    }
    content = LOADERS[source.type](files)
    base, kind, metric, category = KINDS[source.type]
    revision = hash_json([content_hash(file.path) for file in files.values()])[:40]
    metadata = TaskMetadata(
        name=source.task,
        description=f"A {kind} task from local files.",
        dataset={"path": source.task, "revision": revision},
        type=kind,
        category=category,
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=list(source.languages) or ["eng-Latn"],
        main_score=metric,
        domains=list(source.domains) or None,
        is_public=False,
    )
    members: dict[str, Any] = {"metadata": metadata, "content": content, "load_data": _load_data}
    if source.type == "sts":
        members["min_score"], members["max_score"] = source.score_range
    if source.type == "pair_classification":
        members["label_column_name"] = "label"
    if source.type == "clustering":
        members |= {
            "input_column_name": "text",
            "label_column_name": "label",
            "max_fraction_of_documents_to_embed": None,
        }
    made = type("LocalTask", (base,), members | source.options)
    return made(seed=getattr(source, "seed", 42))


def _load_data(self: Any, *_: Any, **__: Any) -> None:
    self.dataset = self.content
    self.data_loaded = True


LABEL = (str, int)


def _retrieval(files: Mapping[str, TaskFile]) -> Any:
    wanted = {"id": str, "text": str}
    corpus = _with_own_ids(files["corpus"], wanted, optional=["title"], may_be_empty=["text"])
    if bare := [row["id"] for row in corpus.values() if not f"{row['title']}{row['text']}".strip()]:
        log.info(
            "%s: %d of %d passages have neither text nor title and are kept, as in mteb ('%s' first)",
            files["corpus"].path, len(bare), len(corpus), bare[0],
        )  # fmt: skip
    queries = _with_own_ids(files["queries"], wanted)
    known = {"query": ("queries", queries), "doc": ("corpus", corpus)}
    qrels = files["qrels"]
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    for line, row in qrels.rows({"query": str, "doc": str, "score": float}):
        for name, (role, there) in known.items():
            if row[name] not in there:
                raise qrels.error(line, f"{name} '{row[name]}' is not among the ids of {files[role].path}")
        if row["score"] != int(row["score"]):
            raise qrels.error(line, f"the score is {row['score']}, and scores are whole numbers")
        relevant[row["query"]][row["doc"]] = int(row["score"])
    if unjudged := sorted(set(queries) - set(relevant)):
        log.warning(
            "%s: %d of %d queries stand in no row and are left out ('%s' first)",
            qrels.path, len(unjudged), len(queries), unjudged[0],
        )  # fmt: skip
    judged = [row for name, row in queries.items() if name in relevant]
    return _retrieval_data(list(corpus.values()), judged, dict(relevant), None)


def _with_own_ids(file: TaskFile, wanted: Mapping[str, Any], **which: Sequence[str]) -> dict[str, Row]:
    """A file's rows by their ids, which no two rows share."""
    rows: dict[str, Row] = {}
    for line, row in file.rows(wanted, **which):
        if rows.setdefault(row["id"], row) is not row:
            raise file.error(line, f"the id '{row['id']}' stands twice; give each row an id of its own")
    return rows


def _reranking(files: Mapping[str, TaskFile]) -> Any:
    """Candidates a query; equal texts are one document, so that each is encoded once."""
    test = files["test"]
    ids: dict[str, str] = {}
    queries: Rows = []
    relevant: dict[str, dict[str, int]] = {}
    for number, (line, row) in enumerate(test.rows({"query": str, "positive": list, "negative": list})):
        if not row["positive"] or not row["negative"]:
            raise test.error(line, "there is no positive or no negative; leave the row out")
        judged: dict[str, int] = {}
        for role, score in (("negative", 0), ("positive", 1)):
            judged |= {ids.setdefault(text, f"d{len(ids)}"): score for text in row[role]}
        relevant[f"q{number}"] = judged
        queries.append({"id": f"q{number}", "text": row["query"]})
    corpus = [{"id": i, "text": text} for text, i in ids.items()]
    return _retrieval_data(corpus, queries, relevant, {query: list(own) for query, own in relevant.items()})


def _retrieval_data(corpus: Rows, queries: Rows, relevant: Any, ranked: Any) -> Any:
    split = {
        "corpus": Dataset.from_list([{"title": "", **row} for row in corpus]),
        "queries": Dataset.from_list(queries),
        "relevant_docs": relevant,
        "top_ranked": ranked,
    }
    return {"default": {"test": split}}


def _table(wanted: Mapping[str, Any]) -> Callable[[Mapping[str, TaskFile]], DatasetDict]:
    def load(files: Mapping[str, TaskFile]) -> DatasetDict:
        return DatasetDict(
            {role: Dataset.from_list([row for _, row in file.rows(wanted)]) for role, file in files.items()}
        )

    return load


def _pairs(files: Mapping[str, TaskFile]) -> DatasetDict:
    rows: Rows = []
    for line, row in files["test"].rows({"sentence1": str, "sentence2": str, "label": float}):
        if row["label"] not in (0.0, 1.0):
            raise files["test"].error(line, f"the label is {row['label']}, and labels of pairs are 0 or 1")
        rows.append(row | {"label": int(row["label"])})
    return DatasetDict({"test": Dataset.from_list(rows)})


LOADERS: dict[str, Callable[[Mapping[str, TaskFile]], Any]] = {
    "retrieval": _retrieval,
    "reranking": _reranking,
    "sts": _table({"sentence1": str, "sentence2": str, "score": float}),
    "pair_classification": _pairs,
    "classification": _table({"text": str, "label": LABEL}),
    "clustering": _table({"text": str, "label": LABEL}),
}
