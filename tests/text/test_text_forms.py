"""Training data as other tools write it: recognised, and read as rows of the pairs format."""

import json
import logging
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from realign.artifacts.command import UserError
from realign.study.data import Dataset
from realign.text.datasets import checked_rows
from realign.text.forms import form_of
from realign.text.pairs import PairRow
from realign.text.streams import LineError
from realign.training.index import PairFile, build_index
from realign.training.train import dataset_name


def lines(*rows, end="\n"):
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


def rows_of(source):
    return list(checked_rows(source, Dataset(file=str(source)), Counter()))


user = lambda text: [{"role": "user", "content": text}]  # noqa: E731
asked = lambda system, text: [{"role": "system", "content": system}, *user(text)]  # noqa: E731

FORMS = {
    "FlagEmbedding": (
        {"query": "q", "pos": ["p"], "neg": ["n", "m"], "prompt": "Find: ", "type": "normal",
         "pos_scores": [0.9], "neg_scores": [0.2, 1]},
        PairRow("q", ("p",), ("n", "m"), "Find: ", (0.9,), (0.2, 1.0)),
    ),
    "sentence-transformers": (
        {"anchor": "q", "positive": "p", "negative_2": "m", "negative_1": "n", "negative_10": "o",
         "scores": [3, 2, 1, 0]},
        PairRow("q", ("p",), ("n", "m", "o"), "", (3.0,), (2.0, 1.0, 0.0)),
    ),
    "ms-swift": (
        {"messages": asked("Find:", "q"), "positive_messages": [user("p")],
         "negative_messages": [asked("Title", "n"), user("m")]},
        PairRow("q", ("p",), ("Title n", "m"), "Find: "),
    ),
    "older ms-swift": (
        {"query": "q", "response": "p", "rejected_response": ["n", "m"]}, PairRow("q", ("p",), ("n", "m"))
    ),
    "tevatron": (
        {"query_id": "1", "query": "q", "positive_passages": [{"docid": "a", "title": "t", "text": "p"}],
         "negative_passages": [{"docid": "b", "title": "", "text": "n"}]},
        PairRow("q", ("t p",), ("n",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_each_form_is_recognised_said_and_converted(tmp_path, caplog, form, end):
    written, row = FORMS[form]
    source = tmp_path / "data.jsonl"
    source.write_bytes(lines(written, written, end=end).encode())
    assert form_of(source) == form
    with caplog.at_level(logging.INFO, "realign"):
        assert rows_of(source) == [row, row]
    assert f"{source}: read as {form} data" in caplog.text
    build_index(source, tmp_path / "index")
    assert PairFile.open("data", source, tmp_path / "index", negatives=1)[1] == row


def test_a_parquet_table_with_the_librarys_columns_is_trained_on_as_it_is(tmp_path):
    source = tmp_path / "triplets.parquet"
    rows = [{"query": f"q{i}", "positive": f"p{i}", "negative": f"n{i}"} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), source)
    build_index(source, tmp_path / "index")
    read = PairFile.open("triplets", source, tmp_path / "index", negatives=1)
    assert [read[i] for i in range(3)] == [PairRow(f"q{i}", (f"p{i}",), (f"n{i}",)) for i in range(3)]
    assert dataset_name(source) == "triplets"


def test_columns_with_one_negative_or_none(tmp_path):
    source = tmp_path / "data.jsonl"
    source.write_text(
        lines({"question": "q", "positive": ["p", "o"], "negative": "n"}, {"question": "r", "positive": "s"})
    )
    assert rows_of(source) == [PairRow("q", ("p", "o"), ("n",)), PairRow("r", ("s",))]


def test_scores_of_another_number_name_the_line(tmp_path):
    source = tmp_path / "data.jsonl"
    row = {"anchor": "q", "positive": "p", "negative": "n", "scores": [1, 2]}
    source.write_text(lines(row, row | {"scores": [1]}))
    with pytest.raises(
        LineError, match=r"line 2: 1 scores for 2 passages \(as sentence-transformers has it\)"
    ):
        rows_of(source)


@pytest.mark.parametrize(
    ("form", "bad", "reason"),
    [
        ("sentence-transformers", {"positive": "p"}, "none of anchor, query, question is there"),
        ("sentence-transformers", {"anchor": "q"}, "positive is missing"),
        ("ms-swift", {"messages": user("q")}, "positive_messages is missing"),
        ("ms-swift", {"messages": user("q"), "positive_messages": 3}, "a field holds no text and no list"),
        ("older ms-swift", {"query": "q"}, "response is missing"),
        ("tevatron", {"query": "q"}, "positive_passages is missing"),
    ],
)
def test_a_later_row_that_lacks_something_names_the_line_and_can_be_dropped(tmp_path, form, bad, reason):
    source = tmp_path / "data.jsonl"
    written, row = FORMS[form]
    source.write_text(lines(written, bad, written))
    with pytest.raises(LineError, match=f"line 2: {reason}"):
        rows_of(source)
    counts = Counter()
    assert list(checked_rows(source, Dataset(file=str(source), invalid="drop"), counts)) == [row, row]


@pytest.mark.parametrize("column", ["response", "positive", "positive_passages"])
def test_pairs_with_a_column_of_another_tool_are_pairs(tmp_path, column):
    source = tmp_path / "data.jsonl"
    source.write_text(lines({"query": "q", "pos": ["p"], "neg": ["n"], column: "other"}))
    assert form_of(source) == "pairs"
    assert rows_of(source) == [PairRow("q", ("p",), ("n",))]


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "scifact"
    (folder / "qrels").mkdir(parents=True)
    documents = [
        {"_id": "d1", "title": "Title", "text": "one"},
        {"_id": "d2", "text": "two"},
        {"_id": "d3", "text": "x"},
    ]
    (folder / "corpus.jsonl").write_text(lines(*documents))
    (folder / "queries.jsonl").write_text(lines(*({"_id": n, "text": f"query {n}"} for n in "abc")))
    judged = "query-id\tcorpus-id\tscore\r\nb\td1\t2\r\nb\td2\t0\r\na\td2\t1\r\nc\td3\t0\r\n"
    (folder / "qrels" / "train.tsv").write_text(judged)
    return folder


def test_a_beir_folder_gives_its_training_queries(beir, tmp_path):
    wanted = [PairRow("query b", ("Title one",), ("two",)), PairRow("query a", ("two",))]
    assert form_of(beir) == "BEIR"
    assert rows_of(beir) == wanted
    build_index(beir, tmp_path / "index")
    assert PairFile.open("scifact", beir, tmp_path / "index", negatives=0)[0] == wanted[0]
    assert dataset_name(beir) == "scifact"


def test_a_beir_folder_that_lacks_something_says_what(beir):
    place = beir / "qrels" / "train.tsv"
    place.write_text(place.read_text() + "a\tgone\t1\n")
    with pytest.raises(UserError, match=r"corpus\.jsonl: 1 texts that qrels name are not there \(gone"):
        rows_of(beir)
    place.rename(beir / "qrels" / "dev.tsv")
    (beir / "qrels" / "test.tsv").write_text("")
    with pytest.raises(UserError, match=r"no train\.tsv.*dev\.tsv, test\.tsv"):
        rows_of(beir)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_triples_of_ms_marco(tmp_path, end):
    source = tmp_path / "triples.train.small.tsv"
    source.write_bytes((f"q\tp\tn{end}" * 2).encode())
    assert form_of(source) == "MS MARCO"
    assert rows_of(source) == [PairRow("q", ("p",), ("n",))] * 2
    assert dataset_name(source) == "triples.train.small"


def test_triples_that_are_none_name_the_line(tmp_path):
    source = tmp_path / "triples.tsv"
    source.write_text("q\tp\tn\nq\tp\n")
    with pytest.raises(LineError, match=r"triples\.tsv, line 2: 2 fields between tabs, not three"):
        rows_of(source)
    source.write_text("12\t34\t56\n")
    with pytest.raises(UserError, match="line 1: a triple of numbers; give the triples with their texts"):
        rows_of(source)


@pytest.mark.parametrize("name", ["pairs.jsonl", "columns.jsonl", "triples.tsv"])
def test_a_file_in_latin_1_is_refused_by_its_line(tmp_path, name):
    rows = {
        "pairs.jsonl": lines({"query": "q", "pos": ["plain"]}, {"query": "q", "pos": ["größer"]}),
        "columns.jsonl": lines({"anchor": "q", "positive": "a"}, {"anchor": "q", "positive": "größer"}),
        "triples.tsv": "q\tp\tn\nq\tgrößer\tn\n",
    }
    source = tmp_path / name
    source.write_bytes(rows[name].encode("latin-1"))
    for read in (rows_of, lambda path: build_index(path, tmp_path / "index")):
        with pytest.raises(
            LineError, match=rf"{name}, line 2: not UTF-8 at byte \d+ of the line; convert the file"
        ):
            read(source)


def test_pairs_with_carriage_returns_and_a_byte_order_mark_are_read(tmp_path):
    source = tmp_path / "pairs.jsonl"
    source.write_bytes(
        b"\xef\xbb\xbf"
        + lines({"query": "q", "pos": ["p"]}, {"query": "r", "pos": ["s"]}, end="\r\n").encode()
    )
    assert [row.query for row in rows_of(source)] == ["q", "r"]
    build_index(source, tmp_path / "index")
    read = PairFile.open("pairs", source, tmp_path / "index", negatives=0)
    assert [read[0].query, read[1].query] == ["q", "r"]
