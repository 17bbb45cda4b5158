"""Task files as people have them: other columns, BEIR's folders, bare quotes; and what a mistake in them says."""

import json
import re
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from realign.artifacts.command import UserError
from realign.evaluation.tasks import build_task
from realign.plan.evaluations import find_file, planned_tasks, task_files, task_settings
from realign.study.errors import StudyError, describe
from realign.study.evaluation import Evaluation, TaskFiles
from realign.text.streams import write_objects
from realign.tools import evaluate as front


def built(folder, **about):
    """The texts of a task that a study declares."""
    asked = Evaluation(tasks={"Own": {"type": "retrieval", "path": str(folder), **about}})
    planned = planned_tasks(asked)["Own"]
    return build_task(
        task_settings(asked, "m", planned.source), [Path(x) for x in task_files(planned, "R")]
    ).content


def search(folder, **about):
    """A retrieval task's texts by id, and what is relevant to each query."""
    split = built(folder, **about)["default"]["test"]
    texts = {role: {row["id"]: row for row in split[role]} for role in ("corpus", "queries")}
    return texts["corpus"], texts["queries"], split["relevant_docs"]


CORPUS = [("d1", "Tides", "The tide is high."), ("d2", "", "Oak leaves fall.")]
QUERIES = [("q1", "when is the tide high"), ("q2", "which leaves fall")]
RELEVANT = {"q1": {"d1": 2}, "q2": {"d2": 1, "d1": 0}}


def write_task(folder, corpus, queries, qrels):
    """The task above, each file's columns under these names."""
    write_objects(folder / "corpus.jsonl", [dict(zip(corpus, row, strict=True)) for row in CORPUS])
    write_objects(folder / "queries.jsonl", [dict(zip(queries, row, strict=True)) for row in QUERIES])
    rows = [(q, d, score) for q, judged in RELEVANT.items() for d, score in judged.items()]
    write_objects(folder / "qrels.jsonl", [dict(zip(qrels, row, strict=True)) for row in rows])
    return folder


@pytest.fixture
def plain(tmp_path):
    return write_task(tmp_path / "plain", ("id", "title", "text"), ("id", "text"), ("query", "doc", "score"))


@pytest.fixture
def beir(tmp_path):
    """As BEIR's archives are: ids with an underscore, qrels in a folder by split."""
    folder = write_task(tmp_path / "beir", ("_id", "title", "text"), ("_id", "text"), ("q", "d", "s"))
    (folder / "qrels.jsonl").unlink()
    (folder / "qrels").mkdir()
    rows = [f"{q}\t{d}\t{s}\n" for q, judged in RELEVANT.items() for d, s in judged.items()]
    (folder / "qrels/test.tsv").write_text("".join(["query-id\tcorpus-id\tscore\n", *rows]))
    (folder / "qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td2\t1\n")
    return folder


def test_each_file_has_columns_of_its_own(tmp_path, plain):
    folder = write_task(
        tmp_path / "own",
        ("doc_id", "heading", "body"),
        ("query_id", "body"),
        ("query_id", "doc_id", "relevance"),
    )
    columns = {
        "text": "body",  # in every file
        "corpus": {"id": "doc_id", "title": "heading"},
        "queries": {"id": "query_id"},
        "qrels": {"query": "query_id", "doc": "doc_id", "score": "relevance"},
    }
    assert search(folder, columns=columns) == search(plain)


def test_a_beir_folder_is_read_as_it_is(beir, plain):
    assert search(beir) == search(plain)
    _, queries, relevant = search(beir, files={"qrels": "qrels/dev.tsv"})
    assert (set(queries), relevant) == ({"q2"}, {"q2": {"d2": 1}})


def test_passages_may_lack_a_text_or_all_as_in_the_real_sets(beir, caplog):
    """mteb keeps them, and so the scores of those sets count them."""
    rows = [
        {"_id": "d1", "title": "Tides", "text": ""},
        {"_id": "d2", "title": "", "text": " "},
        {"_id": "d3", "text": "Oak"},
    ]
    write_objects(beir / "corpus.jsonl", rows)
    with caplog.at_level("INFO", "realign"):
        corpus, _, _ = search(beir)
    assert corpus["d1"] == {"title": "Tides", "id": "d1", "text": ""}
    assert list(corpus) == ["d1", "d2", "d3"]
    assert "corpus.jsonl: 1 of 3 passages have neither text nor title" in caplog.text
    assert "('d2' first)" in caplog.text


def test_one_file_may_lack_a_header(plain):
    (plain / "qrels.jsonl").unlink()
    (plain / "qrels.tsv").write_text("q1\t0\td1\t2\nq2\t0\td2\t1\nq2\t0\td1\t0\n")
    assert search(plain, columns={"qrels": {"query": 1, "doc": 3, "score": 4}})[2] == RELEVANT


def test_quotes_are_characters_where_a_task_says_so(plain):
    (plain / "queries.jsonl").unlink()
    (plain / "queries.tsv").write_text('id\ttext\nq1\t"tide" in a sentence\nq2\t12" of oak\n')
    with pytest.raises(UserError, match=r"queries\.tsv, line 2: .*set quotes: false in the task 'Own' if"):
        search(plain)
    _, queries, _ = search(plain, quotes=False)
    assert [row["text"] for row in queries.values()] == ['"tide" in a sentence', '12" of oak']


def test_an_open_quote_is_named_by_the_line_that_opens_it(plain):
    (plain / "queries.jsonl").unlink()
    (plain / "queries.csv").write_text('id,text\nq1,tide\nq2,"leaves\n' + "q3,more\n" * 20)
    with pytest.raises(UserError, match=r"queries\.csv, line 3: .*is a quote left open"):
        search(plain)


A_PAIR = r"; qrels have one row a pair, such as"


@pytest.mark.parametrize(
    ("file", "row", "words"),
    [
        ("qrels", {"query": "q1", "doc": ["d1", "d2"], "score": 1}, rf"'doc' is \['d1', 'd2'\], not a text{A_PAIR}"),
        ("qrels", {"query": "q1", "docs": ["d1"]}, rf"no column 'doc' \(did you mean 'docs'\?\){A_PAIR}"),
        ("qrels", {"query": "q1", "doc": "d1", "score": [1]}, rf"'score' is \[1\], not a number{A_PAIR}"),
        ("qrels", {"q1": {"d1": 1}}, rf"no column 'query'{A_PAIR}"),
        (
            "qrels",
            {"qid": "q1", "did": "d1", "score": 1},
            r"no column 'query'; set columns\.qrels\.query of the task 'Own' to the column that holds it "
            r"\(there are: qid, did, score\)",
        ),
        (
            "corpus",
            {"doc_id": "d9", "text": "a"},
            r"no column 'id'.*; set columns\.corpus\.id of the task 'Own' to the column .*there are: doc_id, text",
        ),
        ("corpus", {"id": "d9", "text": None}, r"'text' is empty, not a text; fill it or leave the row out"),
        ("corpus", {"id": 1.0, "text": "a"}, r"'id' is 1\.0, not a text"),
        ("qrels", {"query": "q1", "doc": "d9", "score": 1}, r"doc 'd9' is not among the ids of .*corpus\.jsonl"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_row_names_file_key_and_remedy(plain, file, row, words):
    write_objects(plain / f"{file}.jsonl", [row])
    with pytest.raises(UserError, match=rf"plain/{file}\.jsonl, line 1: {words}"):
        search(plain)


def test_a_title_that_no_row_has_is_a_mistake(plain):
    with pytest.raises(
        UserError, match=r"no row has the column 'heading'; correct columns\.corpus\.title of"
    ):
        search(plain, columns={"corpus": {"title": "heading"}})


def test_a_table_holds_no_lists(tmp_path):
    (tmp_path / "test.csv").write_text("query,positive,negative\na,b,c\n")
    with pytest.raises(UserError, match=r"'positive' is 'b', not a list of texts; .*as JSONL or Parquet"):
        built(tmp_path, type="reranking")


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (
            {"columns": {"corpus": {"idd": "a"}}},
            r"columns\.corpus: a retrieval task takes no column 'idd'.*'id'",
        ),
        ({"columns": {"corpora": {"id": "a"}}}, r"columns: a retrieval task has no file 'corpora'.*'corpus'"),
        (
            {"columns": {"label": "a"}},
            r"takes no column 'label' \(its columns: doc, id, query, score, text, title",
        ),
        (
            {"columns": {"qrels": {"title": "a"}}},
            r"columns\.qrels: .*no column 'title' \(its columns: doc, query",
        ),
        (
            {"path": None, "embedded": "DocsRetrieval", "columns": {"id": "a"}},
            r"files and columns go with path",
        ),
    ],
)
def test_a_mistyped_column_is_a_mistake_in_the_study(about, words):
    with pytest.raises(ValidationError) as told:
        Evaluation.model_validate({"tasks": {"Own": {"type": "retrieval", "path": "x"} | about}})
    (line,) = describe(told.value, Evaluation)
    assert line.startswith("tasks.Own: ")
    assert re.search(words, line)


def test_a_path_is_a_folder_with_the_files(beir, tmp_path):
    def told(path, **files):
        with pytest.raises(StudyError) as error:
            find_file("Own", TaskFiles(type="retrieval", path=str(path), **files), "qrels")
        (problem,) = error.value.problems
        return problem

    assert told(tmp_path / "gone") == f"path: there is no folder {tmp_path / 'gone'}"
    assert "give its folder, and its name as files: {qrels: test.tsv}" in told(beir / "qrels/test.tsv")
    shutil.rmtree(beir / "qrels")
    assert f"files: {beir} holds no file 'qrels' or 'qrels/test' (" in told(beir)


def test_paths_are_relative_to_the_file_of_tasks(plain, tmp_path, monkeypatch):
    file = tmp_path / "tasks.yaml"
    file.write_text("Own: {type: retrieval, path: plain}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    _, planned = front.plan(front.parser().parse_args(["--model", "m", "--task-file", str(file)]))
    assert task_files(planned["Own"], "R") == [
        str(plain / f"{r}.jsonl") for r in ("corpus", "queries", "qrels")
    ]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"type": "retrieval", "path": "gone"}, "tasks.Own.path: there is no folder"),
        (
            {"type": "retrieval", "path": "plain", "files": {"qrels": "q.tsv"}},
            "tasks.Own.files: there is no ",
        ),
        ({"type": "retrieval", "path": "plain", "colums": {}}, "tasks.Own.colums: unknown key"),
        (
            {"type": "retrieval", "embedded": "DocsRetrieval"},
            "tasks.Own.embedded: only a study makes such files",
        ),
        ({"type": "retrieval", "dataset": "docs"}, "tasks.Own.dataset: only a study makes such files"),
    ],
)
def test_a_mistake_in_the_file_of_tasks_names_it(plain, tmp_path, task, words):
    file = tmp_path / "tasks.yaml"
    file.write_text(json.dumps({"Own": task}))
    with pytest.raises(UserError) as told:
        front.plan(front.parser().parse_args(["--model", "m", "--task-file", str(file)]))
    assert str(told.value).startswith(f"{file}: {words}")
