"""Attention and padding by behaviour, not by configuration; encode in order whatever the batches."""

import re

import numpy as np
import pytest
import torch

from realign.artifacts.command import UserError
from realign.embedder.attention import assert_attention
from realign.embedder.model import Embedder
from realign.embedder.tokens import Padded, by_token_budget
from realign.study.embedder import EmbedderSettings

FAMILIES = ["qwen2", "qwen3", "llama"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_a_later_token_is_seen_only_in_bidirectional_attention(backbones, family, kernel, attention):
    settings = EmbedderSettings(attention=attention, attn_implementation=kernel)
    model = Embedder.load(backbones[family], settings).model
    ids = torch.tensor([[5, 60, 70, 80, 90]])
    other = torch.tensor([[5, 60, 70, 80, 91]])
    with torch.no_grad():
        moved = (model(ids).last_hidden_state - model(other).last_hidden_state)[:, :-1].norm()
    assert (moved > 1e-2) if attention == "bidirectional" else (moved == 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "last", "cls", "weighted_mean"])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_padding_on_either_side_changes_no_vector(backbones, texts, family, pooling, attention):
    embedder = Embedder.load(backbones[family], EmbedderSettings(attention=attention, pooling=pooling))
    rows = embedder.tokenize(texts, "Instruct: find the same\nQuery: ")
    with torch.no_grad():
        alone = torch.cat([embedder(embedder.batch(rows.take([i]))) for i in range(len(texts))])
        right = embedder.batch(rows)
        width, lengths = right.input_ids.shape[1], rows.lengths
        left = Padded(
            torch.stack(
                [torch.roll(row, width - n) for row, n in zip(right.input_ids, lengths, strict=True)]
            ),
            torch.stack(
                [torch.roll(row, width - n) for row, n in zip(right.attention_mask, lengths, strict=True)]
            ),
            right.prompt_lengths,
        )
        for padded in (right, left):
            torch.testing.assert_close(embedder(padded), alone, atol=1e-5, rtol=0)


def test_a_model_that_ignores_the_switch_is_refused(backbones):
    model = Embedder.load(backbones["qwen2"], EmbedderSettings(attention="causal")).model
    with pytest.raises(UserError, match="bidirectional"):
        assert_attention(model, "bidirectional")
    model = Embedder.load(backbones["qwen2"]).model
    with pytest.raises(UserError, match="causal"):
        assert_attention(model, "causal")


def test_the_log_tells_how_far_padding_moves_states(backbones, caplog):
    with caplog.at_level("INFO", logger="realign.embedder.attention"):
        Embedder.load(backbones["qwen3"])
    assert re.search(
        r"padding changes states by \S+ on the right, \S+ on the left \(allowed: 1e-03", caplog.text
    )


def test_a_kernel_that_ignores_padding_is_refused(backbones, monkeypatch):
    model = Embedder.load(backbones["qwen2"]).model
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda attention_mask=None, **given: forward(attention_mask=None, **given)
    )
    with pytest.raises(UserError, match="padding"):
        assert_attention(model, "bidirectional")


def test_encode_keeps_the_order_whatever_the_batches(backbones, texts, monkeypatch):
    embedder = Embedder.load(backbones["qwen3"])
    many = [t + str(i) for i in range(5) for t in texts]
    whole = embedder.encode(many, token_budget=10**6)
    assert whole.dtype == np.float32
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embedder.encode(many, token_budget=100), whole, atol=1e-5)
    monkeypatch.setattr("realign.embedder.model.WINDOW", 7)
    np.testing.assert_allclose(embedder.encode(many), whole, atol=1e-5)
    streamed = np.zeros_like(whole)
    embedder.encode(many, on_batch=lambda where, made: streamed.__setitem__(where, made))
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_instructions_are_seen_and_not_pooled(backbones, texts):
    embedder = Embedder.load(backbones["qwen2"], EmbedderSettings(normalize=False))
    prompt = "Instruct: find the same\nQuery: "
    row = embedder.tokenize(texts[:1], prompt)
    length = len(embedder.tokenizer(prompt)["input_ids"])
    assert row.prompt_lengths == [length]
    batch = embedder.batch(row)
    with torch.no_grad():
        states = embedder.model(batch.input_ids).last_hidden_state[0]
        torch.testing.assert_close(embedder(batch)[0], states[length:].mean(dim=0))
    other = embedder.encode(texts[:1], "Instruct: find the opposite\nQuery: ")
    assert np.abs(other - embedder.encode(texts[:1], prompt)).max() > 1e-3


def test_one_instruction_a_text(backbones, texts):
    embedder = Embedder.load(backbones["llama"])
    prompts = ["Instruct: a\nQuery: ", "", "Instruct: find the same\nQuery: "] * 2
    each = np.stack([embedder.encode([t], p)[0] for t, p in zip(texts, prompts, strict=True)])
    np.testing.assert_allclose(embedder.encode(texts, prompts), each, atol=1e-5)
    with pytest.raises(ValueError, match="instructions"):
        embedder.tokenize(texts, prompts[:2])


def test_gradients_flow_and_training_mode_is_left_as_it_was(backbones, texts):
    embedder = Embedder.load(backbones["qwen2"]).train()
    embedder.encode(texts)
    assert embedder.training
    embedder(embedder.batch(embedder.tokenize(texts))).sum().backward()
    assert all(p.grad is not None for p in embedder.model.layers[0].parameters())


def test_directories_that_hold_no_model_are_refused(tmp_path, backbones):
    with pytest.raises(UserError, match=r"config\.json"):
        Embedder.load(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((backbones["qwen2"] / name).read_bytes())
    with pytest.raises(UserError, match="tokenizer"):
        Embedder.load(tmp_path)


def test_missing_weights_are_refused(tmp_path, backbones):
    from safetensors.torch import load_file, save_file

    for file in backbones["qwen2"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.up_proj"):
        Embedder.load(tmp_path)


def test_batches_fill_their_budget_and_cover_each_row_once():
    lengths = [3, 50, 7, 7, 120, 1, 30, 2]
    batches = list(by_token_budget(lengths, 60))
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert batches[0] == [4]
    assert all(len(b) * max(lengths[i] for i in b) <= 60 for b in batches[1:])
