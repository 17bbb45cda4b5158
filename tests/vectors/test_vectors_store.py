"""Kept vectors: exact, bounded, shared, and thrown away when damaged."""

import logging

import numpy as np
import pytest

from realign.artifacts.command import UserError
from realign.vectors.store import VectorStore, text_keys


def vectors(count, width=8, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def found(store, keys):
    """What a store holds of some keys, by place among them."""
    return {place: row for places, rows in store.find(keys) for place, row in zip(places, rows, strict=True)}


def test_what_is_kept_comes_back_exactly_in_another_process_too(tmp_path):
    keys, made = text_keys([f"text {i}" for i in range(50)]), vectors(50)
    VectorStore(tmp_path).add(keys, made)
    kept = found(VectorStore(tmp_path), keys[::-1])
    assert np.array_equal(np.stack([kept[i] for i in range(50)]), made[::-1])


def test_a_key_depends_on_the_prompt_and_the_text_alone():
    a, b = text_keys(["x", "y"], "ask: "), text_keys(["y"], "ask: ")
    assert bytes(a[1]) == bytes(b[0]) != bytes(a[0])
    assert bytes(text_keys(["ask: x"])[0]) != bytes(a[0])


def test_half_precision_rounds_fresh_and_kept_vectors_alike(tmp_path):
    store, keys, made = VectorStore(tmp_path, "float16"), text_keys(["a", "b"]), vectors(2)
    rounded = store.round(made)
    store.add(keys, rounded)
    kept = found(VectorStore(tmp_path, "float16"), keys)
    assert np.array_equal(np.stack([kept[0], kept[1]]), rounded)
    assert 0 < np.abs(rounded - made).max() < 2e-3
    with pytest.raises(UserError, match="float16"):
        store.round(made * 1e6)


def test_the_limit_holds(tmp_path):
    store = VectorStore(tmp_path, limit_bytes=2000)
    for i in range(20):
        store.add(text_keys([str(i)]), vectors(1, 64, i))
    assert 0 < store.size <= 2000 + 256  # the arrays' own headers
    assert 0 < len(found(store, text_keys([str(i) for i in range(20)]))) < 20


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_segment_is_told_and_thrown_away(tmp_path, damage, caplog):
    keys = text_keys(["a", "b", "c"])
    VectorStore(tmp_path).add(keys, vectors(3))
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
        assert found(VectorStore(tmp_path), keys) == {}
    assert "damaged" in caplog.text
    assert not list(tmp_path.glob("*.npy"))


def test_segments_of_other_jobs_are_seen(tmp_path):
    mine, theirs = (VectorStore(tmp_path) for _ in range(2))
    keys = text_keys(["late"])
    assert found(mine, keys) == {}
    theirs.add(keys, vectors(1))
    assert list(found(mine, keys)) == [0]


def test_what_is_missing_is_told_once_and_in_order(tmp_path):
    store, keys = VectorStore(tmp_path), text_keys(["c", "a", "b", "a", "c"])
    assert store.missing(keys).tolist() == keys[:3].tolist()
    for some in (keys[1:2], keys[:1]):
        store.add(some, vectors(1))
    assert store.missing(keys).tolist() == keys[2:3].tolist()
    assert sorted(found(store, keys)) == [0, 1, 3, 4]
