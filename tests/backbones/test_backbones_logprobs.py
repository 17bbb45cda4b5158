"""Log-probabilities in chunks are those of whole logits, with their gradients, and no tensor is as large."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from realign.backbones import logprobs
from realign.backbones.logprobs import logprobs_of
from realign.engine.launch import launch

VOCABULARY, PLACES = 500, 14
SMALL = 3 * 4 * VOCABULARY * 5  # so that five tokens' logits make a chunk
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "initializer_range": 0.3,
}  # fmt: skip


class Largest(TorchDispatchMode):
    """Notes the largest tensor that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return made


def passes(model, most_bytes, monkeypatch):
    """Values, each parameter's gradient, and the largest tensor on the way."""
    monkeypatch.setattr(logprobs, "MOST_BYTES", most_bytes)
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (3, PLACES + 4), generator=draw)
    weights = torch.rand(3, PLACES, generator=draw)
    model.zero_grad()
    with Largest() as largest:
        found = logprobs_of(model, ids[:, -PLACES:], 0.7, input_ids=ids, logits_to_keep=PLACES + 1)
        (found * weights).sum().backward()
    return found.detach(), torch.cat([p.grad.flatten().float() for p in model.parameters()]), largest.elements


def tied(dtype=torch.float32):
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=True)).to(dtype)


def test_chunks_give_the_same_values_and_gradients_without_whole_logits(monkeypatch):
    model = tied()
    whole, gradient, most = passes(model, 1 << 30, monkeypatch)
    found, in_chunks, least = passes(model, SMALL, monkeypatch)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
    assert ((in_chunks - gradient).norm() / gradient.norm()).item() < 1e-5
    assert most >= 3 * PLACES * VOCABULARY
    assert least < 3 * PLACES * VOCABULARY / 2
    assert model.lm_head(torch.zeros(1, 16)).shape == (1, VOCABULARY)  # the head gives logits again


def test_chunks_add_no_error_in_half_precision(monkeypatch):
    exact = passes(tied(), 1 << 30, monkeypatch)[1]
    off = {
        name: (passes(tied(torch.bfloat16), most, monkeypatch)[1] - exact).norm() / exact.norm()
        for name, most in (("whole", 1 << 30), ("chunks", SMALL))
    }
    assert off["chunks"] < 1.1 * off["whole"], off


def test_a_model_that_changes_its_logits_is_taken_whole(monkeypatch, caplog):
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, final_logit_softcapping=2.0))
    whole, gradient, _ = passes(model, 1 << 30, monkeypatch)
    forwards = []
    model.register_forward_hook(lambda *_: forwards.append(1))
    for _ in range(2):
        found, again, _ = passes(model, SMALL, monkeypatch)
        assert torch.equal(found, whole)
        assert torch.equal(again, gradient)
    assert caplog.text.count("held whole") == 1
    assert len(forwards) == 3  # one in vain, then one for each call


def test_chunks_are_used_where_a_hook_puts_a_node_of_its_own_behind_the_head(monkeypatch, caplog):
    """As at ZeRO 3, where the node gathers the head's weights for the backward pass."""
    gathered = []

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(outputs):
            return outputs.detach()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, *slopes):
            gathered.append(1)
            return slopes

    model = tied()
    whole, gradient, _ = passes(model, 1 << 30, monkeypatch)
    model.lm_head.register_forward_hook(lambda head, given, made: Gather.apply(made))
    found, in_chunks, most = passes(model, SMALL, monkeypatch)
    assert "held whole" not in caplog.text
    assert most < 3 * PLACES * VOCABULARY / 2
    assert gathered == [1]
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
    assert ((in_chunks - gradient).norm() / gradient.norm()).item() < 1e-5


@pytest.mark.slow
def test_chunks_give_the_same_gradients_inside_deepspeed_on_two_processes(tmp_path, monkeypatch):
    """At each ZeRO stage, two passes added up, beside plain autograd of one process on whole logits."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (2, 4, PLACES + 4), generator=draw)
    stages, ways = (0, 1, 2, 3), {"whole": 1 << 30, "chunks": SMALL}
    spec = {"shape": SHAPE, "ids": ids.tolist(), "places": PLACES, "stages": stages, "ways": ways}
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    launch("logprobs_worker", spec | {"out": str(tmp_path)}, tmp_path / "spec.json", 2, threads=1)
    for tied in (True, False):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=tied))
        rows = ids.flatten(0, 1)
        values = logprobs_of(model, rows[:, -PLACES:], 0.7, input_ids=rows, logits_to_keep=PLACES + 1)
        values.sum().backward()
        plain = {f"gradient/{name}": parameter.grad for name, parameter in model.named_parameters()}
        plain |= {f"values/{number}": part for number, part in enumerate(values.detach().chunk(2))}
        for stage, way in itertools.product(stages, ways):
            found = load_file(tmp_path / f"{tied}-{stage}-{way}.safetensors")
            most = found.pop("most").item()
            assert most == 2 * PLACES if way == "whole" else most <= 5
            assert found.keys() == plain.keys()
            for name, value in plain.items():
                apart = (found[name] - value).norm() / value.norm()
                assert apart < 1e-5, (tied, stage, way, name, apart)


@pytest.mark.parametrize("recipe", ["sft", "rlvr"])
def test_a_backbone_is_tuned_to_the_same_weights(recipe, base, corpora, tmp_path, monkeypatch):
    """SFT at ZeRO 0 and GRPO with a KL penalty, both through their commands."""
    from backbones_help import make, weights

    settings = {
        "batch": 4,
        "optimisation": {"steps": 2},
        "hardware": {"micro_batch": 4, "zero_stage": 0 if recipe == "sft" else 1},
    }
    if recipe == "rlvr":
        settings |= {"rollouts": {"group": 2, "max_new_tokens": 6}, "updates": 2}
    inputs = {"base": base, "problems": corpora / "train.jsonl"}
    found = []
    for name, most in (("whole", 1 << 30), ("chunks", SMALL)):
        monkeypatch.setattr(logprobs, "MOST_BYTES", most)
        found.append(weights(make(recipe, settings, inputs, tmp_path / name) / "model"))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", ["sft", "rlvr"])
def test_a_backbone_is_tuned_on_a_gpu(recipe, base, corpora, tmp_path, monkeypatch):
    """In bf16 at ZeRO 2, with logits whole and in chunks; SFT's loss is that of a CPU within rounding."""
    import json

    from backbones_help import make

    settings = {"batch": 4, "optimisation": {"steps": 3}, "hardware": {"micro_batch": 4, "processes": 1}}
    if recipe == "rlvr":
        settings |= {"rollouts": {"group": 2, "max_new_tokens": 6}, "updates": 2}
    inputs = {"base": base, "problems": corpora / "train.jsonl"}
    losses = {}
    for name, most in (("whole", 1 << 30), ("chunks", SMALL), ("cpu", 1 << 30)):
        monkeypatch.setattr(logprobs, "MOST_BYTES", most)
        if name == "cpu":
            monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
            settings["hardware"]["zero_stage"] = 0
            if recipe == "rlvr":  # whose answers are others in another precision
                continue
        history = (make(recipe, settings, inputs, tmp_path / name) / "history").read_text()
        losses[name] = [json.loads(line)["loss"] for line in history.splitlines()]
    assert all(len(found) == 3 for found in losses.values())
    if recipe == "sft":
        assert losses["chunks"] == pytest.approx(losses["whole"], rel=2e-2)
        assert losses["whole"] == pytest.approx(losses["cpu"], rel=5e-2)
