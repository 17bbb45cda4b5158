"""Packed texts give the vectors and the gradients that padded ones give."""

import numpy as np
import pytest
import torch

from realign.artifacts.command import UserError
from realign.embedder import packing
from realign.embedder.attention import assert_attention
from realign.embedder.model import Embedder
from realign.embedder.tokens import by_token_budget
from realign.study.embedder import EmbedderSettings

PROMPT = "Instruct: find the same\nQuery: "


def both(path, **settings):
    padded = Embedder.load(path, EmbedderSettings(**settings))
    return padded, Embedder.load(path, EmbedderSettings(**settings, attn_implementation="packed"))


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "last", "cls", "weighted_mean"])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_packed_vectors_are_padded_vectors(backbones, texts, family, pooling, attention):
    padded, packed = both(backbones[family], pooling=pooling, attention=attention, max_length=60)
    prompts = [PROMPT, "", "Instruct: a\nQuery: "] * 2
    torch.testing.assert_close(
        torch.from_numpy(packed.encode(texts, prompts)),
        torch.from_numpy(padded.encode(texts, prompts)),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_gradients_are_padded_gradients(backbones, texts, checkpointing):
    gradients = []
    for embedder in both(backbones["qwen3"]):
        embedder.train()
        if checkpointing:
            embedder.model.gradient_checkpointing_enable({"use_reentrant": False})
        vectors = embedder(embedder.batch(embedder.tokenize(texts, PROMPT)))
        (vectors @ vectors.T).logsumexp(dim=1).sum().backward()
        gradients.append([p.grad for p in embedder.model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * float(a.abs().max()) + 1e-7, rtol=0)


def test_a_text_of_which_only_the_instruction_is_left(backbones):
    for pooling in ("mean", "last", "cls", "weighted_mean"):
        padded, packed = both(backbones["qwen2"], pooling=pooling, max_length=4, normalize=False)
        rows = padded.tokenize(["lost", "x"], [PROMPT, ""])
        assert rows.prompt_lengths == [4, 0]
        with torch.no_grad():
            torch.testing.assert_close(packed(packed.batch(rows)), padded(padded.batch(rows)))


@pytest.mark.parametrize("pooling", ["mean", "last", "cls", "weighted_mean"])
def test_a_text_without_a_token_has_a_vector_too(backbones, pooling):
    padded, packed = both(backbones["qwen2"], pooling=pooling)
    for texts in (["", "some words", ""], [""]):
        found = packed.encode(texts, progress=False)
        assert np.isfinite(found).all()
        if pooling == "cls":  # the state of a filler, which is arbitrary
            texts, found = texts[1:2], found[1:2]
        np.testing.assert_allclose(found, padded.encode(texts, progress=False), atol=1e-5)


def test_a_kernel_that_lets_texts_see_one_another_is_refused(backbones, monkeypatch):
    def leaky(module, query, key, value, attention_mask, scaling=None, is_causal=None, **_):
        made = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, scale=scaling, is_causal=bool(is_causal), enable_gqa=True
        )
        return made.transpose(1, 2), None

    monkeypatch.setattr(packing, "packed_attention", leaky)
    try:
        with pytest.raises(UserError, match="neighbour"):
            Embedder.load(backbones["qwen2"], EmbedderSettings(attn_implementation="packed"))
    finally:
        monkeypatch.undo()
        packing.register_packed_attention()


def test_packs_are_filled_by_what_they_hold():
    lengths = [3, 50, 7, 7, 120, 1, 30, 2]
    batches = list(by_token_budget(lengths, 60, packed=True))
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in b) <= 60 for b in batches[1:])
    assert len(batches) < len(list(by_token_budget(lengths, 60)))


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_a_kernel_that_does_not_keep_packed_texts_apart_is_refused(backbones, kernel):
    """As a GPU's kernel for packs might be one day; padding, which these ignore, says nothing about it."""
    settings = EmbedderSettings(attn_implementation=kernel)
    model = Embedder.load(backbones["qwen2"], settings, device="cpu").model
    with pytest.raises(UserError, match=f"neighbour changes its states .* kernel {kernel} does not keep"):
        assert_attention(model, "bidirectional", packed=True)
