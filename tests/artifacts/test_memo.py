"""What is kept of earlier findings is used where it is whole, and nothing of it is ever needed."""

import json

import pytest

from realign.artifacts import fingerprint
from realign.artifacts.fingerprint import KEPT, Memo


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def keep(code=b"finder"):
    memo = Memo("test", code)
    assert memo.of("key", lambda: ["found", 1]) == ["found", 1]
    memo.save()
    return memo


def never():
    raise AssertionError("found out again")


def test_what_was_found_is_not_found_out_again():
    keep()
    assert Memo("test", b"finder").of("key", never) == ["found", 1]


def test_another_finder_trusts_nothing_of_it():
    keep()
    assert Memo("test", b"other").of("key", lambda: 2) == 2


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b.replace(b"found", b"fount"), lambda _: b"\xff"]
)
def test_a_damaged_file_means_finding_out_anew(damage):
    path = keep().path
    path.write_bytes(damage(path.read_bytes()))
    memo = Memo("test", b"finder")
    assert memo.of("key", lambda: 2) == 2
    memo.save()
    assert Memo("test", b"finder").of("key", never) == 2


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert Memo("test", b"finder").of("key", lambda: 2) == 2
    keep()


def test_it_stays_small():
    memo = keep()
    for i in range(KEPT):
        memo.of(str(i), lambda: 0)
    memo.save()
    assert len(json.loads(memo.path.read_text().partition("\n")[2])) == KEPT
    assert list(memo.path.parent.iterdir()) == [memo.path]


def test_a_fingerprint_from_the_memo_is_that_from_the_code(monkeypatch):
    module = "realign.training.loss"
    fresh = []
    for memo in (Memo("syntax", b"one"), Memo("syntax", b"one"), Memo("syntax", b"two")):
        fingerprint.forget()
        monkeypatch.setattr(fingerprint, "_MEMO", memo)
        fresh.append(fingerprint.reachable(module))
    fingerprint.forget()
    assert fresh[0] == fresh[1] == fresh[2]
