"""The estimate of a training's GPU memory, beside what torch really keeps for a backward pass."""

import json
import re

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model

from realign.plan.memory import Shape, faster_ways, training_need, ways_out
from realign.runs.dag import PlannedJob
from realign.runs.memory import memory_lines
from realign.study.load import parse_study
from realign.study.recipe import Hardware, Recipe

FAMILIES = {
    "llama": (LlamaConfig, LlamaModel),
    "qwen2": (Qwen2Config, Qwen2Model),
    "qwen3": (Qwen3Config, Qwen3Model),
}
GROUPED = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2}
ALIKE = {"hidden_size": 384, "intermediate_size": 1152, "num_attention_heads": 6, "num_key_value_heads": 6}
QWEN_1_5B = {
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2, "vocab_size": 151936, "model_type": "qwen2",
}  # fmt: skip


def kept_bytes(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> int:
    """The bytes that a forward pass keeps for its backward pass, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}  # which holds them, so that no place is used twice

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert states.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "each"), [(torch.bfloat16, 2), (torch.float32, 4)])
@pytest.mark.parametrize("sizes", [GROUPED, ALIKE])
def test_activations_are_those_that_torch_keeps(family, dtype, each, sizes):
    make_config, make_model = FAMILIES[family]
    config = make_config(vocab_size=500, num_hidden_layers=4, head_dim=64, use_cache=False, **sizes)
    model = make_model(config).to(dtype).train()
    ids = torch.randint(0, 500, (4, 96))
    mask = torch.ones_like(ids)
    mask[0, -5:] = 0
    expected = kept_bytes(model, ids, mask) / ids.numel() / 4
    assert Shape.of(config.to_dict()).layer_bytes(each) == pytest.approx(expected, rel=0.07)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_of_the_model(family):
    make_config, make_model = FAMILIES[family]
    config = make_config(vocab_size=5000, num_hidden_layers=4, **GROUPED)
    model = make_model(config)
    counted = sum(p.numel() for p in model.parameters())
    assert Shape.of(config.to_dict()).parameters == pytest.approx(counted, rel=0.01)


def need(processes=4, **hardware):
    return training_need(Shape.of(QWEN_1_5B), Recipe(hardware=Hardware(**hardware)), processes)


def test_zero_divides_what_it_says():
    whole = need(zero_stage=1, processes=1)
    assert whole.weights == pytest.approx(3.09, rel=0.01)
    assert whole.optimizer == pytest.approx(6 * whole.weights)
    assert need(zero_stage=1).optimizer == pytest.approx(whole.optimizer / 4)
    assert need(zero_stage=2).weights == whole.weights
    assert need(zero_stage=3).weights == pytest.approx(whole.weights / 4)
    by_chunk = need(zero_stage=2, reduce_once=False).gradients
    assert by_chunk == pytest.approx(
        whole.weights / 2 + 2 * 151936 * 1536 / 1e9
    )  # its part, and the largest matrix
    assert need(zero_stage=2).gradients == pytest.approx(2.5 * whole.weights)  # its part, and a whole one


def test_activations_follow_the_tokens_at_once_and_checkpointing():
    most = need(token_budget=16384).activations
    assert need(token_budget=8192).activations == pytest.approx(most / 2)
    assert need(token_budget=8192, kept_tokens=16384).activations == pytest.approx(most)
    assert need(token_budget=16384, activation_checkpointing=True).activations < most / 10


def test_adapters_need_no_optimizer_for_the_rest():
    made = training_need(Shape.of(QWEN_1_5B), Recipe(lora={"rank": 16}), 1)
    assert made.optimizer < 0.3
    assert made.weights == need().weights


def study(recipe=None, **train):
    return parse_study(
        {
            "study": {"name": "mine"},
            "backbones": {"small": {"path": "small"}},
            "recipes": {"plain": recipe or {}},
            "resources": {"rules": {"train": train}},
        },
        "test",
    )


def test_a_plan_sets_the_need_beside_what_the_gpus_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [
        PlannedJob("train", {"backbone": "small", "recipe": "plain", "seed": seed}) for seed in ("0", "1")
    ]
    assert memory_lines(study(), jobs) == []  # on CPUs
    asked = study(gpus=4, gpu_memory_gb=48)
    assert "known once the backbone is there" in memory_lines(asked, jobs)[1]
    folder = tmp_path / "results/mine/backbones/small/model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(QWEN_1_5B))
    head, line, advice = memory_lines(asked, jobs)
    assert "estimated" in head
    assert "of 48 GB on each of 4 GPUs (weights 3.1, optimizer 4.6" in line
    assert "may not fit; try recipes.plain.hardware.{token_budget: " in advice
    assert len(memory_lines(study(gpus=4, gpu_memory_gb=141), jobs)) == 2


UNUSUAL = {
    "experts": {"num_experts": 128},
    "local experts": {"num_local_experts": 128},
    "routed experts": {"n_routed_experts": 128},
    "sizes by layer": {"intermediate_size": [8960] * 28},
    "null": {"intermediate_size": None},
}


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL)
def test_a_model_of_another_kind_has_no_estimate(tmp_path, monkeypatch, unusual):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/mine/backbones/small/model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(QWEN_1_5B | unusual))
    jobs = [PlannedJob("train", {"backbone": "small", "recipe": "plain", "seed": "0"})]
    assert "no estimate for a model of this kind" in memory_lines(study(gpus=4), jobs)[1]


def test_advice_is_a_change_that_makes_it_fit():
    shape, recipe = Shape.of(QWEN_1_5B), Recipe()
    assert training_need(shape, recipe, 4).total > 48
    assert ways_out(shape, recipe, 4, 48)
    assert ways_out(shape, recipe, 4, 2) == []


CHECKPOINTED = Hardware(token_budget=16384, activation_checkpointing=True)


@pytest.mark.parametrize(("room", "budget"), [(48, 4096), (60, 8192), (141, 16384)])
def test_room_that_is_left_is_used_to_compute_less_twice(room, budget):
    shape, recipe = Shape.of(QWEN_1_5B), Recipe(hardware=CHECKPOINTED)
    ways = faster_ways(shape, recipe, 4, room)
    assert ways[0] == f"activation_checkpointing: false, token_budget: {budget}"
    assert re.fullmatch(r"kept_tokens: \d+", ways[1])
    assert faster_ways(shape, recipe, 4, 20) == []
    assert faster_ways(shape, Recipe(), 4, room) == []  # checkpoints nothing


def test_advice_is_for_the_precision_of_the_recipe():
    shape = Shape.of(QWEN_1_5B)
    exact = Recipe(precision="fp32", hardware=Hardware(zero_stage=3, token_budget=4096))
    ways = ways_out(shape, exact, 4, training_need(shape, exact, 4).total - 5)
    for way in ways:
        changed = exact.model_copy(
            update={"hardware": exact.hardware.model_copy(update=yaml.safe_load(f"{{{way}}}"))}
        )
        assert training_need(shape, changed, 4).total <= training_need(shape, exact, 4).total - 5
    assert ways


def test_a_plan_counts_the_guide_model_and_says_where_room_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [PlannedJob("train", {"backbone": "small", "recipe": "plain", "seed": "0"})]
    recipe = {
        "loss": {"guide": {"margin": 0.1}},
        "guide_model": {"path": "guide"},
        "hardware": {"activation_checkpointing": True},
    }
    folder = tmp_path / "results/mine/backbones/small/model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(QWEN_1_5B))
    asked = study(recipe, gpus=4, gpu_memory_gb=48)
    assert "known once the backbone and the guide model are there" in memory_lines(asked, jobs)[1]
    (tmp_path / "guide").mkdir()
    save_file({"a": torch.zeros(2000, 2000), "b": torch.zeros(7)}, tmp_path / "guide/model.safetensors")
    _, line, advice = memory_lines(asked, jobs)
    without = training_need(Shape.of(QWEN_1_5B), asked.recipes["plain"], 4)
    assert training_need(Shape.of(QWEN_1_5B), asked.recipes["plain"], 4, 10**9).total == pytest.approx(
        without.total + 2 * 1.15
    )
    assert "guide 0.0)" in line
    assert "has room to compute less twice: recipes.plain.hardware.{activation_checkpointing: false" in advice
