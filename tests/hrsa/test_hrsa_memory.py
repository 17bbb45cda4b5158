"""What is held at a time does not grow with texts, and hardly with layers."""

import tracemalloc

import numpy as np
import pytest

from realign.hrsa import centred, cka, correlation, linear
from realign.hrsa.opening import pair_up
from realign.hrsa.products import NumpyProducts
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


def peak(layers, texts):
    left, right = Made("left", layers, texts), Made("right", layers, texts)
    pair = pair_up(left, right, LinearJob(), {})
    tracemalloc.start()
    linear.measure(pair, LinearJob(), NumpyProducts("float32"))
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert left.largest * layers < left.tokens * layers / 4  # never a whole layer
    return held


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """Limits in proportion to these small states."""
    monkeypatch.setattr(centred, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(cka, "TILE_BYTES", 1 << 20)
    monkeypatch.setattr(correlation, "TILE_BYTES", 1 << 19)


def test_memory_is_flat_in_texts_and_layers():
    peak(layers=2, texts=10)  # what is loaded at first use is no part of it
    base = peak(layers=3, texts=40)
    assert peak(layers=3, texts=120) < 1.3 * base
    assert peak(layers=9, texts=40) < 1.6 * base
