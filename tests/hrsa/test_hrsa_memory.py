"""What is held at a time does not grow with texts, and hardly with layers."""

import tracemalloc

import numpy as np
import pytest

from realign.hrsa import centred, cka, correlation, linear, products
from realign.hrsa.centred import both_sides
from realign.hrsa.groups import Groups
from realign.hrsa.opening import pair_up
from realign.study.hrsa import LinearJob


class Made:
    """States that are made when they are read, so that only what the measures hold is counted."""

    def __init__(self, name, layers, texts, each=50, width=48):
        self.name, self.layers, self.tokens, self.width = name, layers, texts * each, width
        self.text_index = np.repeat(np.arange(texts), each)
        self.largest = 0

    def read(self, layer, rows):
        parts = [
            np.random.default_rng([layer, part.start]).standard_normal((part.stop - part.start, self.width))
            for part in rows
        ]
        self.largest = max(self.largest, sum(len(p) for p in parts))
        return np.concatenate(parts).astype(np.float32)


def peak(layers, texts, may_hold=False):
    left, right = Made("left", layers, texts), Made("right", layers, texts)
    pair = pair_up(left, right, LinearJob(), {})
    tracemalloc.start()
    linear.measure(pair, LinearJob(), products.NumpyProducts("float32"))
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert may_hold or left.largest < left.tokens / 4  # never a whole layer
    return held


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """Limits in proportion to these small states."""
    monkeypatch.setattr(centred, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(centred, "HELD_BYTES", 1 << 16)
    monkeypatch.setattr(cka, "STACK_BYTES", 1 << 18)
    monkeypatch.setattr(products, "GRAM_BYTES", 1 << 16)
    monkeypatch.setattr(products, "CHUNK_BYTES", 1 << 16)
    monkeypatch.setattr(correlation, "TILE_BYTES", 1 << 19)


def test_memory_is_flat_in_texts_and_layers():
    peak(layers=2, texts=10)  # what is loaded at first use is no part of it
    base = peak(layers=3, texts=40)
    assert peak(layers=3, texts=120) < 1.3 * base
    assert peak(layers=9, texts=40) < 1.6 * base


def test_layers_are_held_up_to_a_limit(monkeypatch):
    peak(layers=2, texts=10)
    streamed, limit = peak(layers=4, texts=20), 1 << 20
    monkeypatch.setattr(centred, "HELD_BYTES", limit)
    for layers, texts in ((4, 20), (9, 40)):
        held = peak(layers, texts, may_hold=True)
        assert streamed + limit / 4 < held < 1.5 * streamed + limit


def gram_peak(layers, texts):
    """The peak in the Gram form, and what each token's sums by group take of it, both in bytes."""
    left, right = (Made(name, layers, texts, width=320) for name in ("left", "right"))
    groups, on_cpu = Groups(left.text_index), products.NumpyProducts("float32")
    sides = both_sides(left, right, groups, on_cpu)
    assert cka.gram_is_cheaper(groups.tokens, *sides)
    tracemalloc.start()
    cka.cka_sums(*sides, groups, on_cpu)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held, 2 * 8 * layers * groups.tokens * groups.count


def test_the_gram_form_holds_each_tokens_sums_by_group_and_never_a_whole_gram_matrix():
    gram_peak(layers=2, texts=5)  # what is loaded at first use is no part of it
    base, base_sums = gram_peak(layers=2, texts=20)  # as many groups as with more texts
    for layers, texts in ((2, 24), (4, 20)):
        held, sums = gram_peak(layers, texts)
        assert held - base < 1.4 * (sums - base_sums)
        assert held < 4 * (50 * texts) ** 2  # one layer's, in float32


class Counted(Made):
    """States that count how often they are read."""

    def __init__(self, *shape):
        super().__init__(*shape)
        self.reads = np.zeros((self.layers, self.tokens), int)
        self.calls = 0

    def read(self, layer, rows):
        self.calls += 1
        for part in rows:
            self.reads[layer, part] += 1
        return super().read(layer, rows)


def test_each_layer_is_read_whole_and_no_more_than_three_times(monkeypatch):
    """Once for its means, once for products of features, and once for its rotation."""
    monkeypatch.setattr(centred, "HELD_BYTES", 1 << 30)
    sides = [Counted(name, 3, 60) for name in ("left", "right")]
    linear.measure(pair_up(*sides, LinearJob(), {}), LinearJob(), products.NumpyProducts("float32"))
    for side in sides:
        assert (side.reads == 3).all()
        assert side.calls == 3 * 3  # before: a call for each group, or for each of its blocks
