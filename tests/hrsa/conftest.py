"""States of known likeness, as arrays and as files in the format that extraction writes."""

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def random():
    return np.random.default_rng(7)


def draw_states(random, layers=3, texts=30, each=8, width=12):
    """Tokens that share something with their text, with means and scales that differ by dimension."""
    of_text = np.repeat(random.standard_normal((layers, texts, width)), each, axis=1)
    values = of_text + random.standard_normal((layers, texts * each, width))
    return values * np.linspace(2, 0.5, width) + random.standard_normal(width) * 3


@pytest.fixture
def text_index():
    return np.repeat(np.arange(30), 8)


@pytest.fixture
def pair(random):
    """Two models' states: the right one is the left one bent and disturbed."""
    left = draw_states(random)
    bend = 0.7 * np.eye(12) + 0.25 * random.standard_normal((12, 12))
    return left, left @ bend + 0.5 * random.standard_normal(left.shape) + 1.0


def write_file(path, values, text_index, labels=None, pooled=False, **replace):
    """A file of states as extraction writes it."""
    content = {
        "token_ids": (np.arange(values.shape[1]) * 7 % 11).astype(np.int32),
        "text_index": np.asarray(text_index, np.int32),
        "position": np.concatenate([np.arange(n) for n in np.bincount(text_index)]).astype(np.int32),
    } | replace
    with h5py.File(path, "w") as file:
        file.attrs.update(format="realign-states", version=1, corpus="made", attention="causal")
        file.attrs["level"] = "text" if pooled else "token"
        file.attrs["selection"] = json.dumps({"count": 20000, "skip_first": 4})
        file["states"] = values
        for name, data in content.items():
            file[name] = data
        if labels is not None:
            file.create_dataset("labels", data=list(labels), dtype=h5py.string_dtype())
    return path


@pytest.fixture
def draw(random):
    return lambda **shape: draw_states(random, **shape)


@pytest.fixture
def make_file():
    return write_file


@pytest.fixture
def massive():
    """Half like: far from 0, and one dimension is massive for some tokens, not all of them in both models."""
    random = np.random.default_rng(0)
    x = random.standard_normal((3000, 128)) + 5
    y = 0.7 * x + 0.8 * random.standard_normal(x.shape)
    x[::50, 3] += 30
    y[::50, 3] += 30
    x[25::100, 3] += 30
    y[75::100, 3] += 30
    return x.astype(np.float32), y.astype(np.float32)


@pytest.fixture
def prepared(random):
    """Two sides ready to be measured, in float64 on the processor unless told otherwise."""
    from realign.hrsa.centred import both_sides
    from realign.hrsa.groups import Groups
    from realign.hrsa.products import NumpyProducts
    from realign.hrsa.reading import ArrayStates

    def prepare(left, right, text_index=None, groups=20, products=None):
        products = products or NumpyProducts("float64")
        left, right = ArrayStates(left, text_index), ArrayStates(right, text_index)
        dealt = Groups(left.text_index, groups)
        return *both_sides(left, right, dealt, products), dealt, products

    return prepare
