import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from realign.artifacts.command import UserError
from realign.text.pairs import read_pairs
from realign.text.records import read_records
from realign.text.streams import LineError
from realign.text.tool import main

ROWS = [{"question": f"q{i}", "context": [f"c{i}", f"d{i}"], "n": i} for i in range(30)]


def parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    return path


def saved_dataset(folder: Path, rows: list[dict]) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))
    return folder


def jsonl_folder(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir()
    for name, part in (("b.jsonl", rows[15:]), ("a.jsonl", rows[:15])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "README.md").write_text("not data")
    return folder


@pytest.mark.parametrize("make", [parquet, saved_dataset, jsonl_folder])
def test_every_kind_of_source_gives_the_same_rows_in_order(tmp_path: Path, make):
    source = make(tmp_path / "source", ROWS)
    assert [row for _, row in read_records(source)] == ROWS
    numbers = [n for n, _ in read_records(source)]
    assert numbers == list(range(1, 31)) or make is jsonl_folder


@pytest.mark.parametrize("make", [parquet, saved_dataset])
def test_a_column_that_is_not_there_is_named_with_the_nearest(tmp_path: Path, make):
    source = make(tmp_path / "source", ROWS)
    with pytest.raises(UserError, match=r"no column 'questoin' \(did you mean 'question'\?\)"):
        list(read_records(source, ["questoin"]))


def test_folders_that_hold_nothing_usable(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    with pytest.raises(UserError, match="does not exist"):
        list(read_records(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no JSONL"):
        list(read_records(tmp_path / "empty"))
    both = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    both.save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(UserError, match=r"several splits \(train\)"):
        list(read_records(tmp_path / "splits"))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UserError, match="no readable Parquet"):
        list(read_records(broken))


COLUMNS = {"query": "question", "positive": "context"}


@pytest.mark.parametrize("make", [parquet, saved_dataset, jsonl_folder])
def test_pairs_from_columns_get_the_datasets_instruction(tmp_path: Path, run_stage, make):
    source = make(tmp_path / "source", ROWS)
    dataset = {"file": str(source), "columns": COLUMNS, "instruction": "Find the context"}
    out = run_stage("pairs", {"dataset": dataset}, source=source)
    rows = list(read_pairs(out / "pairs"))
    assert len(rows) == 30
    assert rows[3].dump() == {
        "query": ["Instruct: Find the context\nQuery: ", "q3"],
        "pos": ["c3", "d3"],
        "neg": [],
    }
    stats = json.loads((out / "stats").read_text())
    assert stats["rows"] == 30
    assert stats["positive_characters"]["count"] == 60


def test_a_file_in_the_pairs_format_keeps_its_own_instruction_and_negatives(write_lines, run_stage):
    row = {"query": ["Instruct: x\nQuery: ", "a"], "pos": ["p"], "neg": ["n1", "n2"]}
    source = write_lines("pairs.jsonl", row, row, {**row, "pos": ["other"]})
    out = run_stage("pairs", {"dataset": {"file": str(source), "mined": False}}, source=source)
    assert [r.dump() for r in read_pairs(out / "pairs")] == [row, {**row, "pos": ["other"]}]
    assert json.loads((out / "stats").read_text())["dropped"] == {"duplicate": 1}
    kept = run_stage("pairs", {"dataset": {"file": str(source), "duplicates": "keep"}}, source=source)
    assert len(list(read_pairs(kept / "pairs"))) == 3


@pytest.mark.parametrize("make", [parquet, saved_dataset])
def test_a_table_with_the_formats_own_columns_needs_no_mapping(tmp_path: Path, run_stage, make):
    rows = [{"query": ["i ", f"q{i}"], "pos": [f"p{i}"], "neg": ["n"], "more": 1} for i in range(5)]
    source = make(tmp_path / "table", rows)
    out = run_stage("pairs", {"dataset": {"file": str(source)}}, source=source)
    assert [r.dump() for r in read_pairs(out / "pairs")] == [
        {k: r[k] for k in ("query", "pos", "neg")} for r in rows
    ]


def test_faulty_rows_stop_the_job_or_are_counted(write_lines, run_stage):
    rows = [
        {"q": "a", "p": "b"},
        {"q": "", "p": "b"},
        {"q": "c", "p": []},
        {"q": "d"},
        b"\xff",
        {"q": "e", "p": "f"},
    ]
    source = write_lines("table.jsonl", *rows)
    dataset = {"file": str(source), "columns": {"query": "q", "positive": "p"}}
    with pytest.raises(LineError, match=r"table\.jsonl, line 2: the query is empty"):
        run_stage("pairs", {"dataset": dataset}, source=source)
    out = run_stage("pairs", {"dataset": {**dataset, "invalid": "drop"}}, source=source)
    assert [r.query for r in read_pairs(out / "pairs")] == ["a", "e"]
    dropped = json.loads((out / "stats").read_text())["dropped"]
    assert sum(dropped.values()) == 4
    assert dropped["the query is empty"] == 1


def test_a_source_without_a_usable_row_is_an_error(write_lines, run_stage):
    source = write_lines("table.jsonl", {"query": "", "pos": ["x"]})
    with pytest.raises(UserError, match=r"no usable row is left.*the query is empty"):
        run_stage("pairs", {"dataset": {"file": str(source), "invalid": "drop"}}, source=source)


def test_a_limit_chooses_by_seed_and_keeps_the_order(write_lines, run_stage):
    source = write_lines("pairs.jsonl", *({"query": f"{i:03d}", "pos": ["x"]} for i in range(400)), b"broken")

    def chosen(seed: int) -> list[str]:
        dataset = {"file": str(source), "limit": 50, "invalid": "drop"}
        out = run_stage("pairs", {"dataset": dataset, "seed": seed}, source=source)
        assert json.loads((out / "stats").read_text())["dropped"] == {"not JSON": 1}
        return [row.query for row in read_pairs(out / "pairs")]

    first = chosen(0)
    assert first == chosen(0) == sorted(first)
    assert len(first) == 50
    assert set(first) != set(chosen(1))
    # every part of the file is drawn from
    assert all(any(lo <= int(q) < lo + 100 for q in first) for lo in (0, 100, 200, 300))


def test_probe_texts_are_filtered_labelled_and_balanced(tmp_path: Path, run_stage):
    rows = [
        {
            "reasoning": f"trace {i} " + "x" * i,
            "ok": i % 3 != 0,
            "subject": "rare" if i % 10 == 1 else "common",
        }
        for i in range(200)
    ]
    source = parquet(tmp_path / "cot.parquet", rows)
    corpus = {
        "file": str(source), "text": "reasoning", "label": "subject", "where": {"ok": True},
        "max_characters": 150, "min_characters": 15, "limit": 16,
    }  # fmt: skip
    out = run_stage("probe_corpus", {"corpus": corpus}, source=source)
    texts = [json.loads(line) for line in (out / "texts").open()]
    assert len(texts) == len({t["id"] for t in texts}) == 16
    assert Counter(t["label"] for t in texts) == {"rare": 8, "common": 8}
    assert all(15 <= len(t["text"]) <= 150 for t in texts)
    assert all(int(t["text"].split()[1]) % 3 for t in texts)
    again = run_stage("probe_corpus", {"corpus": corpus}, source=source)
    assert (again / "texts").read_bytes() == (out / "texts").read_bytes()


def test_probe_texts_that_are_missing_are_named(write_lines, run_stage):
    source = write_lines("t.jsonl", {"text": "one"}, {"text": None})
    corpus = {"file": str(source)}
    with pytest.raises(LineError, match=r"t\.jsonl, line 2: 'text' is missing"):
        run_stage("probe_corpus", {"corpus": corpus}, source=source)
    lonely = write_lines("u.jsonl", {"text": "one"}, {"text": "One "})
    with pytest.raises(UserError, match="two at least"):
        run_stage("probe_corpus", {"corpus": {"file": str(lonely)}}, source=lonely)
    unlabelled = write_lines("v.jsonl", {"text": "one"}, {"text": "two"})
    with pytest.raises(LineError, match="the label 'topic' is missing"):
        run_stage("probe_corpus", {"corpus": {"file": "v", "label": "topic"}}, source=unlabelled)


def test_stats_of_pairs_and_of_texts(write_lines, capsys):
    row = {"query": ["i", "q"], "pos": ["abc"], "neg": ["d"]}
    pairs = write_lines("pairs.jsonl", row, {**row, "pos": ["abcde"]})
    assert main(["stats", str(pairs)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["distinct_queries"], told["repeated_queries"]) == (2, 1, 1)
    assert told["positive_characters"]["mean"] == 4
    assert told["instructions"] == {"i": 2}
    texts = write_lines("texts.jsonl", {"text": "one", "label": "a"}, {"text": "three", "label": "a"})
    main(["stats", str(texts)])
    told = json.loads(capsys.readouterr().out)
    assert told["texts"]["characters"] == 8
    assert told["labels"] == {"a": 2}


def test_stats_refuse_or_count_faulty_lines(write_lines, capsys):
    path = write_lines("pairs.jsonl", {"query": "q", "pos": ["a"]}, {"query": "q", "pos": []})
    with pytest.raises(LineError, match="line 2"):
        main(["stats", str(path)])
    main(["stats", str(path), "--invalid", "drop"])
    assert sum(json.loads(capsys.readouterr().out)["dropped"].values()) == 1
    empty = write_lines("empty.jsonl")
    with pytest.raises(UserError, match="is empty"):
        main(["stats", str(empty)])
    texts = write_lines("texts.jsonl", {"body": "x"})
    with pytest.raises(LineError, match="name the column with --text"):
        main(["stats", str(texts)])
    assert main(["stats", str(texts), "--text", "body"]) == 0


def test_stats_of_a_packed_file_from_the_command_line(tmp_path: Path, fresh_python):
    import gzip

    path = tmp_path / "published"
    path.write_bytes(gzip.compress(b'{"query": "q", "pos": ["a"]}\n'))
    code = "import sys; from realign.cli import main; sys.exit(main(['text', 'stats', sys.argv[1]]))"
    assert json.loads(fresh_python(code, str(path)))["rows"] == 1


def test_one_name_for_two_hub_datasets_is_refused():
    from realign.study.errors import StudyError
    from realign.study.load import parse_study

    hub = {"id": "a/b", "revision": "1"}
    content = {
        "study": {"name": "s"},
        "backbones": {},
        "data": {"datasets": {"x": {"hub": hub}}},
        "mining": {"lexical": {}},
        "text": {"probes": {"x": {"hub": hub | {"split": "test"}}}},
    }
    with pytest.raises(StudyError, match=r"text\.probes\.x\.hub"):
        parse_study(content)
    content |= {"text": {}, "traces": {"released": {"x": hub | {"split": "test"}}}}
    with pytest.raises(StudyError, match=r"traces\.released\.x: data\.datasets\.x is another"):
        parse_study(content)
    parse_study(content | {"traces": {"released": {"x": hub}}})  # the same one may be both


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"data": {"datasets": {"x": {}}}}, "exactly one of embedded, file, hub and pypi (given: none)"),
        (
            {"data": {"datasets": {"x": {"file": "a", "embedded": "description-code"}}}},
            "given: embedded, file",
        ),
        ({"data": {"datasets": {"x": {"embedded": "summary-descripton"}}}}, "summary-description"),
        ({"data": {"datasets": {"x": {"hub": {"id": "a/b"}}}}}, "revision: missing"),
        ({"data": {"datasets": {"x": {"hub": {"id": "a b", "revision": "1"}}}}}, "data.datasets.x.hub.id"),
        (
            {"text": {"heldout_packages": ["numpy", "networkx"]}},
            "numpy: a package cannot be trained on and held out",
        ),
        ({"text": {"heldout_packages": ["networkx"]}}, "needs two packages"),
        ({"text": {"problems": {"levels": [5]}}}, "levels: give difficulties from 1 to 4"),
        ({"text": {"problems": {"tasks": {"sum": 0}}}}, "a share above 0"),
        ({"text": {"probes": {"p": {"embedded": "docs", "file": "x"}}}}, "exactly one of"),
    ],
)
def test_broken_sections_say_what_to_mend(section, word):
    from realign.study.errors import StudyError
    from realign.study.load import parse_study

    with pytest.raises(StudyError) as error:
        parse_study({"study": {"name": "s"}, "backbones": {}, **section})
    assert word in str(error.value)
