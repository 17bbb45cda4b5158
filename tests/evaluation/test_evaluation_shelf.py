"""Kept vectors: exact, bounded, shared, and thrown away when damaged."""

import logging

import numpy as np
import pytest

from realign.artifacts.command import UserError
from realign.evaluation.shelf import VectorShelf, text_keys


def vectors(count, width=8, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_what_is_kept_comes_back_exactly_in_another_process_too(tmp_path):
    keys, made = text_keys("", [f"text {i}" for i in range(50)]), vectors(50)
    VectorShelf(tmp_path, limit_bytes=1e9).put(keys, made)
    found = VectorShelf(tmp_path, limit_bytes=1e9).get(keys[::-1])
    assert np.array_equal(np.stack([found[i] for i in range(50)]), made[::-1])


def test_a_key_depends_on_the_prompt_and_the_text_alone():
    a, b = text_keys("ask: ", ["x", "y"]), text_keys("ask: ", ["y"])
    assert bytes(a[1]) == bytes(b[0]) != bytes(a[0])
    assert bytes(text_keys("", ["ask: x"])[0]) != bytes(a[0])


def test_half_precision_rounds_fresh_and_kept_vectors_alike(tmp_path):
    shelf, keys, made = VectorShelf(tmp_path, "float16", 1e9), text_keys("", ["a", "b"]), vectors(2)
    rounded = shelf.round(made)
    shelf.put(keys, rounded)
    kept = VectorShelf(tmp_path, "float16", 1e9).get(keys)
    assert np.array_equal(np.stack([kept[0], kept[1]]), rounded)
    assert 0 < np.abs(rounded - made).max() < 2e-3
    with pytest.raises(UserError, match="float16"):
        shelf.round(made * 1e6)


def test_the_limit_holds(tmp_path):
    shelf = VectorShelf(tmp_path, limit_bytes=2000)
    for i in range(20):
        shelf.put(text_keys("", [str(i)]), vectors(1, 64, i))
    assert 0 < shelf.size <= 2000 + 256  # the arrays' own headers
    assert 0 < len(shelf.get(text_keys("", [str(i) for i in range(20)]))) < 20


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_segment_is_told_and_thrown_away(tmp_path, damage, caplog):
    keys = text_keys("", ["a", "b", "c"])
    VectorShelf(tmp_path, limit_bytes=1e9).put(keys, vectors(3))
    (file,) = tmp_path.glob("*.vectors.npy")
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-2] ^= 1
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[:-8])
    else:
        file.unlink()
    with caplog.at_level(logging.WARNING):
        assert VectorShelf(tmp_path, limit_bytes=1e9).get(keys) == {}
    assert "damaged" in caplog.text
    assert not list(tmp_path.glob("*.npy"))


def test_segments_of_other_jobs_are_seen(tmp_path):
    mine, theirs = (VectorShelf(tmp_path, limit_bytes=1e9) for _ in range(2))
    keys = text_keys("", ["late"])
    assert mine.get(keys) == {}
    theirs.put(keys, vectors(1))
    assert list(mine.get(keys)) == [0]
