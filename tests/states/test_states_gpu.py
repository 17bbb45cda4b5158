"""On a GPU, states are those of the CPU within the rounding of their precision."""

import numpy as np
import pytest
import torch

from realign.states.reader import StatesFile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(("compute", "tolerance"), [("float32", 1e-3), ("bfloat16", 8e-2)])
def test_states_of_a_gpu(tmp_path, extract, backbone, corpus, monkeypatch, compute, tolerance):
    made = extract(tmp_path / "gpu", backbone, corpus, compute=compute)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    exact = extract(tmp_path / "cpu", backbone, corpus, compute="float32")
    for a, b in zip(made, exact, strict=True):
        with StatesFile(a) as quick, StatesFile(b) as slow:
            for layer in range(slow.layers):
                left, right = quick.read(layer), slow.read(layer)
                apart = np.linalg.norm(left - right, axis=1) / np.linalg.norm(right, axis=1)
                assert apart.max() < tolerance
