"""On a GPU: half precision, and packed texts through a variable-length kernel."""

import numpy as np
import pytest
import torch

from realign.embedder.model import Embedder
from realign.study.embedder import EmbedderSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PROMPT = "Instruct: find the same\nQuery: "


def cosines(left, right):
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
@pytest.mark.parametrize("kernel", ["auto", "sdpa", "packed"])
def test_half_precision_is_near_full_precision(backbones, texts, family, attention, kernel):
    settings = EmbedderSettings(attention=attention)
    exact = Embedder.load(backbones[family], settings, device="cpu").encode(texts, PROMPT)
    quick = EmbedderSettings(attention=attention, attn_implementation=kernel)
    rounded = Embedder.load(backbones[family], quick, device="cuda").encode(texts, PROMPT)
    assert cosines(exact, rounded).min() > 0.99


def test_packed_gradients_are_padded_gradients_within_rounding(backbones, texts):
    gradients = []
    for kernel in ("sdpa", "packed"):
        settings = EmbedderSettings(attn_implementation=kernel)
        embedder = Embedder.load(backbones["qwen3"], settings, device="cuda").train()
        vectors = embedder(embedder.batch(embedder.tokenize(texts, PROMPT)))
        (vectors @ vectors.T).logsumexp(dim=1).sum().backward()
        gradients.append(torch.cat([p.grad.flatten().float() for p in embedder.model.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.98
