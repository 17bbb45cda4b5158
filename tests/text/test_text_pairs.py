import gzip
import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from realign.artifacts.command import UserError
from realign.text.pairs import PairRow, parse_pair, read_pairs, without_duplicates, write_pairs
from realign.text.prompts import instruct
from realign.text.streams import LineError, open_packed

GOOD = {"query": ["Instruct: Find it\nQuery: ", "a question"], "pos": ["an answer"], "neg": []}


def test_instructions_are_spelled_as_the_format_has_them():
    assert instruct("Given a question, find it") == "Instruct: Given a question, find it\nQuery: "
    assert instruct("") == ""


rows = st.builds(
    PairRow,
    query=st.text(min_size=1).filter(str.strip),
    positives=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=3).map(tuple),
    negatives=st.lists(st.text(min_size=1).filter(str.strip), max_size=3).map(tuple),
    instruction=st.text(max_size=20),
)


@given(rows)
def test_any_row_reads_back_as_it_was_written(row):
    assert parse_pair(json.loads(json.dumps(row.dump()))) == row


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_packed_files_read_back_whatever_they_are_called(tmp_path: Path, suffix: str):
    written = [PairRow(f"query {i} \u2028 é", (f"answer {i}\nline",), ("no",), "i ") for i in range(50)]
    path = tmp_path / f"pairs.{suffix}"
    assert write_pairs(path, written) == 50
    assert list(read_pairs(path)) == written
    nameless = path.rename(tmp_path / "published")
    assert list(read_pairs(nameless)) == written


def test_equal_rows_give_equal_bytes_when_packed(tmp_path: Path):
    for suffix in ("jsonl.gz", "jsonl.zst"):
        a, b = tmp_path / f"a.{suffix}", tmp_path / f"other.{suffix}"
        for path in (a, b):
            write_pairs(path, [PairRow("q", ("p",))])
        assert a.read_bytes() == b.read_bytes()


def test_several_packed_parts_in_one_file_are_all_read(tmp_path: Path):
    line = (json.dumps(GOOD) + "\n").encode()
    path = tmp_path / "parts"
    path.write_bytes(gzip.compress(line) + gzip.compress(line))
    assert len(list(read_pairs(path))) == 2
    path.write_bytes(zstandard.compress(line) + zstandard.compress(line))
    assert len(list(read_pairs(path))) == 2


def test_other_spellings_of_a_row_are_understood():
    row = parse_pair({"query": "plain", "pos": [["", "a"], ["Title: ", "b"]]})
    assert row == PairRow("plain", ("a", "Title: b"))


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({**GOOD, "query": ["i", "  "]}, "the query is empty"),
        ({"pos": ["x"]}, "'query' is missing"),
        ({**GOOD, "query": 7}, "'query' is neither"),
        ({**GOOD, "query": ["a", "b", "c"]}, "'query' is neither"),
        ({**GOOD, "pos": []}, "needs a positive"),
        ({"query": "q"}, "needs a positive"),
        ({**GOOD, "pos": "text"}, "no list"),
        ({**GOOD, "pos": [""]}, "empty text"),
        ({**GOOD, "neg": [None]}, "no text"),
        (b'{"query": "a \\ud800", "pos": ["x"]}', "half of a surrogate pair"),
        (b"{not json", "not JSON"),
        (b"[1, 2]", "list where an object is expected"),
        (b'{"query": "caf\xe9"}', "not UTF-8 at byte 14"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_line(write_lines, bad, word):
    path = write_lines("pairs.jsonl", GOOD, b"", bad, GOOD)
    with pytest.raises(LineError) as error:
        list(read_pairs(path))
    assert str(error.value).startswith(f"{path}, line 3: ")
    assert word in str(error.value)
    refused: Counter[str] = Counter()
    assert len(list(read_pairs(path, "drop", refused))) == 2
    assert sum(refused.values()) == 1


def test_an_over_long_line_is_refused_without_being_held(tmp_path: Path):
    path = tmp_path / "long.jsonl"
    good = json.dumps(GOOD).encode()
    with path.open("wb") as stream:
        stream.write(good + b'\n{"query": "')
        for _ in range(64):
            stream.write(b"x" * (1 << 20))
        stream.write(b'", "pos": ["y"]}\n' + good + b"\n")
    import tracemalloc

    refused: Counter[str] = Counter()
    tracemalloc.start()
    kept = list(read_pairs(path, "drop", refused, max_line_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == 2
    assert refused == {"longer than 1048576 bytes": 1}
    assert peak < 8 << 20
    with pytest.raises(LineError, match=r"line 2: longer than 1048576 bytes"):
        list(read_pairs(path, max_line_bytes=1 << 20))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_damaged_packing_is_an_error_and_never_a_short_file(tmp_path: Path, pack):
    lines = b"".join(
        json.dumps({**GOOD, "pos": [os.urandom(30).hex()]}).encode() + b"\n" for _ in range(9999)
    )
    packed = pack(lines)
    path = tmp_path / "cut"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match="the packed data is damaged"):
        list(read_pairs(path))
    path.write_bytes(packed[:2000] + b"\0" * 500 + packed[2500:])
    with pytest.raises(UserError, match=r"the packed data is damaged|not UTF-8|not JSON"):
        list(read_pairs(path))


def test_a_missing_file_and_a_byte_order_mark(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        list(read_pairs(tmp_path / "none.jsonl"))
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n")
    assert len(list(read_pairs(path))) == 1


def test_repetitions_are_dropped_up_to_case_and_space_and_counted():
    one = PairRow("What  is it", ("A thing", "B"))
    same = PairRow("what is it", ("b", "a THING"))
    other = PairRow("what is it", ("C",))
    dropped: Counter[str] = Counter()
    assert list(without_duplicates([one, same, other, one], dropped)) == [one, other]
    assert dropped == {"duplicate": 2}


def test_a_folder_where_a_file_is_read_is_called_one(tmp_path: Path):
    with pytest.raises(UserError, match="this is a folder, and one file is read here"), open_packed(tmp_path):
        pass
    with pytest.raises(UserError, match="no such file"), open_packed(tmp_path / "x.jsonl"):
        pass


def test_reading_streams(tmp_path: Path):
    path = tmp_path / "many.jsonl.gz"
    write_pairs(path, (PairRow(f"q{i}", ("p" * 1000,)) for i in range(20_000)))
    import tracemalloc

    tracemalloc.start()
    assert sum(1 for _ in read_pairs(path)) == 20_000
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_bytes_that_only_look_packed_are_read_as_they_are(tmp_path: Path):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as stream:
        stream.write(json.dumps(GOOD).encode())
    path = tmp_path / "wrong-name.zst"
    path.write_bytes(buffer.getvalue())
    assert next(read_pairs(path)).query == "a question"


def test_scores_and_weights_are_kept_and_follow_the_negatives_that_stay():
    row = PairRow("q", ("p",), ("a", "b", "c"), "", (1.0,), (0.1, 0.2, 0.3), 2.0)
    assert parse_pair(json.loads(json.dumps(row.dump()))) == row
    kept = row.keeping(lambda text: text != "b")
    assert (kept.negatives, kept.negative_scores, kept.weight) == (("a", "c"), (0.1, 0.3), 2.0)
    assert PairRow("q", ("p",), ("a", "b")).keeping(lambda text: text == "b") == PairRow("q", ("p",), ("b",))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"pos_scores": [1, 2]}, "'pos_scores' is no list with a score for each text of 'pos'"),
        ({"pos_scores": [1]}, "'neg_scores' is no list"),
        (
            {"pos_scores": [1], "neg_scores": ["high"]},
            "'neg_scores' holds something that is no finite number",
        ),
        ({"weight": -1}, "'weight' is no finite number from 0"),
        ({"weight": True}, "'weight' is no finite number"),
    ],
)
def test_scores_and_weights_that_cannot_be_are_refused(more, words):
    with pytest.raises(ValueError, match=words):
        parse_pair({"query": "q", "pos": ["p"], "neg": ["n"], **more})
