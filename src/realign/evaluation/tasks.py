"""mteb tasks: its own at their pinned revision, and tasks of one's own made from local files.

A task from files is an ordinary mteb task class with its texts filled in, so that everything that
mteb does with a task of that type (sampling, classifiers, metrics) is done by mteb.
"""

import csv
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from realign.study.benchmarks import installed_mteb
from realign.study.evaluation import SUFFIXES, TASK_FILES, EvaluateTask, TaskSource
from realign.text.records import read_records
from realign.text.streams import LineError

log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]

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
    if version and version != installed_mteb():
        raise UserError(
            f"{name}: planned with mteb {version}, and this machine has {installed_mteb()}; "
            "install the same version everywhere and plan again"
        )
    try:
        found = mteb.get_task(name)
    except KeyError:
        raise UserError(f"mteb {installed_mteb()} has no task '{name}'") from None
    here = found.metadata.dataset.get("revision", "")
    if revision and here != revision:
        raise UserError(
            f"{name}: its dataset was planned at revision {revision}, and the installed mteb "
            f"{installed_mteb()} takes {here}; scores of the two are not comparable. Install the mteb "
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
    files = dict(zip(roles, map(Path, data), strict=True))
    content = LOADERS[source.type](source, files)
    base, kind, metric, category = KINDS[source.type]
    revision = hash_json([content_hash(path) for path in files.values()])[:40]
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


# Reading: every value is checked where it is read, so that an error can name its file and line.


def read_rows(
    path: Path,
    columns: Mapping[str, str | int],
    wanted: Mapping[str, type | tuple[type, ...]],
    optional: Sequence[str] = (),
) -> Rows:
    """The wanted columns of a file's rows, each of the right type and no text empty."""
    rows = []
    numbered = any(isinstance(column, int) for column in columns.values())
    for line, row in _lines(path, numbered):
        clean = {}
        for name, kind in wanted.items():
            column = columns.get(name, name)
            if column not in row:
                known = ", ".join(str(c) for c in row if c is not None) or "none"
                raise UserError(
                    f"{path}, line {line}: no column '{column}' (columns: {known}); see 'columns'"
                )
            clean[name] = _value(path, line, column, row[column], kind)
        for name in optional:
            value = row.get(columns.get(name, name)) or ""
            if not isinstance(value, str):
                raise UserError(
                    f"{path}, line {line}: '{columns.get(name, name)}' has the wrong type: {value!r}"
                )
            clean[name] = value
        rows.append(clean)
    if not rows:
        raise UserError(f"{path}: the file holds no rows")
    return rows


def _value(path: Path, line: int, column: str | int, value: Any, kind: type | tuple[type, ...]) -> Any:
    if kind is float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UserError(f"{path}, line {line}: '{column}' is no number: {value!r}") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise UserError(f"{path}, line {line}: '{column}' is {value!r}")
        return number
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, kind):
        raise UserError(f"{path}, line {line}: '{column}' has the wrong type: {value!r}")
    texts = value if isinstance(value, list) else [value]
    if any(isinstance(text, str) and not text.strip() for text in texts):
        raise UserError(f"{path}, line {line}: '{column}' is empty")
    return value


def _lines(path: Path, numbered: bool) -> Iterator[tuple[int, dict[Any, Any]]]:
    """Line numbers and rows; with `numbered`, a file without a line of names has 1, 2, … instead."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.name.endswith((".csv", ".tsv")):
        yield from _table_lines(path, "\t" if path.suffix == ".tsv" else ",", numbered)
        return
    if numbered:
        raise UserError(f"{path}: columns go by number in CSV and TSV files only")
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: not a format that is read here ({', '.join(SUFFIXES)})")
    for number, row in read_records(path):
        if isinstance(row, LineError):
            raise row
        yield number, row


def _table_lines(path: Path, delimiter: str, numbered: bool) -> Iterator[tuple[int, dict[Any, Any]]]:
    """A row of another length than the first has a stray delimiter or quote, and its cells slip."""
    csv.field_size_limit(2**31 - 1)  # a document may be longer than the library's 131,072 characters
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        names: Sequence[Any] = []
        try:
            for row in filter(None, reader):
                if not names:
                    names = range(1, len(row) + 1) if numbered else row
                    if not numbered:
                        continue
                if len(row) != len(names):
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(row)} cells where the first line has "
                        f"{len(names)}; a cell that holds the delimiter or a quote is written in quotes"
                    )
                yield reader.line_num, dict(zip(names, row, strict=True))
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}; is a quote left open?") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, after line {reader.line_num}: not UTF-8 ({error})") from None


LABEL = (str, int)


def _retrieval(source: TaskSource, files: Mapping[str, Path]) -> Any:
    columns = source.columns
    corpus = read_rows(files["corpus"], columns, {"id": str, "text": str}, optional=["title"])
    queries = read_rows(files["queries"], columns, {"id": str, "text": str})
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    documents, asked = ({row["id"] for row in rows} for rows in (corpus, queries))
    for rows, ids, path in ((corpus, documents, files["corpus"]), (queries, asked, files["queries"])):
        if len(ids) < len(rows):
            raise UserError(f"{path}: an id stands twice")
    for row in read_rows(files["qrels"], columns, {"query": str, "doc": str, "score": float}):
        for role, ids in (("query", asked), ("doc", documents)):
            if row[role] not in ids:
                raise UserError(f"{files['qrels']}: {role} '{row[role]}' is not among the {role} ids")
        if row["score"] != int(row["score"]):
            raise UserError(f"{files['qrels']}: scores are whole numbers, not {row['score']}")
        relevant[row["query"]][row["doc"]] = int(row["score"])
    if unjudged := sorted(asked - set(relevant)):
        log.warning(
            "%s: %d of %d queries stand in no row and are left out ('%s' first)",
            files["qrels"], len(unjudged), len(asked), unjudged[0],
        )  # fmt: skip
        queries = [row for row in queries if row["id"] in relevant]
    return _retrieval_data(corpus, queries, dict(relevant), None)


def _reranking(source: TaskSource, files: Mapping[str, Path]) -> Any:
    """Candidates a query; equal texts are one document, so that each is encoded once."""
    rows = read_rows(files["test"], source.columns, {"query": str, "positive": list, "negative": list})
    ids: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    ranked: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        if not row["positive"] or not row["negative"]:
            raise UserError(f"{files['test']}: row {number + 1} has no positive or no negative")
        judged: dict[str, int] = {}
        for role, score in (("negative", 0), ("positive", 1)):
            judged |= {ids.setdefault(text, f"d{len(ids)}"): score for text in row[role]}
        relevant[f"q{number}"] = judged
        ranked[f"q{number}"] = list(judged)
    corpus = [{"id": i, "text": text} for text, i in ids.items()]
    queries = [{"id": f"q{n}", "text": row["query"]} for n, row in enumerate(rows)]
    return _retrieval_data(corpus, queries, relevant, ranked)


def _retrieval_data(corpus: Rows, queries: Rows, relevant: Any, ranked: Any) -> Any:
    split = {
        "corpus": Dataset.from_list([{"title": "", **row} for row in corpus]),
        "queries": Dataset.from_list(queries),
        "relevant_docs": relevant,
        "top_ranked": ranked,
    }
    return {"default": {"test": split}}


def _table(roles: Mapping[str, type | tuple[type, ...]]) -> Callable[[TaskSource, Mapping[str, Path]], Any]:
    def load(source: TaskSource, files: Mapping[str, Path]) -> DatasetDict:
        return DatasetDict(
            {role: Dataset.from_list(read_rows(path, source.columns, roles)) for role, path in files.items()}
        )

    return load


def _pairs(source: TaskSource, files: Mapping[str, Path]) -> DatasetDict:
    rows = read_rows(files["test"], source.columns, {"sentence1": str, "sentence2": str, "label": float})
    for row in rows:
        if row["label"] not in (0.0, 1.0):
            raise UserError(f"{files['test']}: labels of pairs are 0 or 1, not {row['label']}")
        row["label"] = int(row["label"])
    return DatasetDict({"test": Dataset.from_list(rows)})


LOADERS: dict[str, Callable[[TaskSource, Mapping[str, Path]], Any]] = {
    "retrieval": _retrieval,
    "reranking": _reranking,
    "sts": _table({"sentence1": str, "sentence2": str, "score": float}),
    "pair_classification": _pairs,
    "classification": _table({"text": str, "label": LABEL}),
    "clustering": _table({"text": str, "label": LABEL}),
}
