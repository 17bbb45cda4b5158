import gzip
import json

import pytest
import zstandard

from realign.artifacts.command import UserError
from realign.training.index import PairFile, build_index, instructions_of

PROMPT = "Instruct: find it\nQuery: "
ROWS = [
    {"query": [PROMPT, "first"], "pos": ["ein Apfel"], "neg": ["x", "y"]},
    {"query": [PROMPT, "  "], "pos": ["p"], "neg": ["x"]},
    {"query": ["", "grüße 世界"], "pos": ["a", "b"], "neg": []},
    {"query": ["", "last"], "pos": ["c"], "neg": ["z"]},
]


def write(path, rows=ROWS, pack=lambda b: b):
    path.write_bytes(pack("\n\n".join(json.dumps(r, ensure_ascii=False) for r in rows).encode() + b"\n"))
    return path


@pytest.mark.parametrize(
    ("name", "pack"),
    [("d.jsonl", bytes), ("d.jsonl.gz", gzip.compress), ("d.jsonl.zst", zstandard.ZstdCompressor().compress)],
)
def test_rows_are_read_back_one_at_a_time_however_they_are_packed(tmp_path, name, pack):
    source = write(tmp_path / name, pack=pack)
    build_index(source, tmp_path / "index")
    rows = PairFile.open("d", source, tmp_path / "index", negatives=0)
    assert [r.query for r in (rows[2], rows[0], rows[1])] == ["last", "first", "grüße 世界"]
    assert rows[0].instruction == PROMPT
    assert rows.refused == {"empty query": 1}
    assert instructions_of(tmp_path / "index") == [PROMPT, ""]


def test_rows_without_a_negative_are_left_out_and_counted_where_some_are_asked_for(tmp_path):
    source = write(tmp_path / "d.jsonl")
    build_index(source, tmp_path / "index")
    rows = PairFile.open("d", source, tmp_path / "index", negatives=3)
    assert [rows[i].query for i in range(len(rows))] == ["first", "last"]
    assert rows.refused == {"empty query": 1, "no negative": 1}


def test_an_instruction_that_leaves_no_room_takes_its_rows_along(tmp_path):
    source = write(tmp_path / "d.jsonl")
    build_index(source, tmp_path / "index")
    rows = PairFile.open("d", source, tmp_path / "index", 1, {PROMPT: 8, "": 0}, 8, 1000)
    assert [rows[i].query for i in range(len(rows))] == ["last"]
    assert rows.refused["over-long instruction"] == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"query": ["", "q"], "pos": []}', "line 2.*positive"),
        ('{"query": ["", "q"], "pos": ["p"]', "line 2"),
        ("[1, 2]", "line 2.*object"),
        ('{"pos": ["p"]}', "line 2.*query"),
        ('{"query": ["", "q"], "pos": ["p"], "neg": [3]}', "line 2.*neg"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(UserError, match=words):
        build_index(path, tmp_path / "index")


def test_a_file_without_usable_rows_is_an_error(tmp_path):
    source = write(tmp_path / "d.jsonl", ROWS[1:3])
    build_index(source, tmp_path / "index")
    with pytest.raises(UserError, match="no usable row"):
        PairFile.open("d", source, tmp_path / "index", negatives=1)
