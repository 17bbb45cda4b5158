"""Merges: their ends are the parents to the byte, their middle is the closed form."""

import json
import math
import shutil

import pytest
import torch
from backbones_help import make, weights
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from realign.artifacts.command import UserError
from realign.backbones import merge
from realign.study.backbones import Merge


@pytest.fixture(scope="module")
def parents(base, tmp_path_factory):
    """Three models of one shape and one tokenizer; the last is the first with one vocabulary row more."""
    made = [base]
    config = Qwen3Config.from_pretrained(base)
    for seed, more in ((1, 0), (2, 0), (3, 1)):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("parent")
        shutil.copytree(base, folder, dirs_exist_ok=True)
        config.vocab_size += more
        Qwen3ForCausalLM(config).save_pretrained(folder)
        made.append(folder)
    return made


def merged(folder, parents, **settings):
    return make("merge", settings, {"parents": list(parents)}, folder) / "model"


@pytest.mark.parametrize("method", ["linear", "slerp"])
@pytest.mark.parametrize("alpha", [0, 1])
def test_the_ends_of_a_merge_are_its_parents_to_the_byte(parents, tmp_path, method, alpha):
    made = merged(tmp_path, parents[:2], method=method, alpha=alpha)
    theirs = parents[alpha] / "model.safetensors"
    assert (made / "model.safetensors").read_bytes() == theirs.read_bytes()


def test_task_arithmetic_that_adds_nothing_leaves_the_bytes(parents, tmp_path):
    made = merged(tmp_path, parents[:3], method="arithmetic", alpha=0)
    assert (made / "model.safetensors").read_bytes() == (parents[0] / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("method", "alpha"), [("linear", 0.3), ("linear", -1.7), ("slerp", 0.3), ("arithmetic", 2.5)]
)
def test_a_merge_of_a_model_with_itself_is_itself(parents, tmp_path, method, alpha):
    """Also where a weight is -0.0, which sums would turn into 0.0."""
    own = tmp_path / "own"
    shutil.copytree(parents[0], own)
    tensors = load_file(own / "model.safetensors")
    tensors["model.norm.weight"][0] = -0.0
    save_file(tensors, own / "model.safetensors", {"format": "pt"})
    made = merged(tmp_path / "made", [own] * (3 if method == "arithmetic" else 2), method=method, alpha=alpha)
    assert (made / "model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()


@pytest.mark.parametrize("alpha", [0.25, 1.5, -0.5])
def test_a_linear_merge_and_a_sum_with_a_difference(parents, tmp_path, monkeypatch, alpha):
    monkeypatch.setattr(merge, "BLOCK", 7)  # so that a tensor has many blocks, and the last is shorter
    a, b, c = (weights(parent) for parent in parents[:3])
    mean = weights(merged(tmp_path / "mean", parents[:2], alpha=alpha))
    added = weights(merged(tmp_path / "sum", parents[:3], method="arithmetic", alpha=alpha))
    assert mean.keys() == added.keys() == a.keys()
    for name in a:
        x, y, z = (t[name].double() for t in (a, b, c))
        assert torch.equal(mean[name], ((1 - alpha) * x + alpha * y).float())
        torch.testing.assert_close(added[name], (x + alpha * (z - y)).float())


def test_slerp_keeps_to_the_arc():
    """Two vectors at 60°: a third of the way is at 20° from the first, and as long."""
    first = torch.tensor([2.0, 0.0])
    second = torch.tensor([1.0, math.sqrt(3.0)])
    found = merge.merge([first, second], "x", Merge(method="slerp", alpha=1 / 3))
    angle = math.radians(20)
    assert torch.allclose(found, torch.tensor([2 * math.cos(angle), 2 * math.sin(angle)]), atol=1e-6)
    straight = merge.merge([first, second], "x", Merge(method="slerp", alpha=1 / 3, threshold=0.49))
    assert torch.allclose(straight, first * 2 / 3 + second / 3)
    opposite = merge.merge([first, -first], "x", Merge(method="slerp", alpha=0.25))
    assert torch.allclose(opposite, first / 2)  # no arc is the shortest


def test_a_graft_equals_a_model_put_together_by_hand(parents, tmp_path):
    made = merged(tmp_path / "made", parents[:2], method="graft", layers=[2, 2])
    first, second = (Qwen3ForCausalLM.from_pretrained(parent) for parent in parents[:2])
    first.model.layers[1] = second.model.layers[1]
    first.save_pretrained(tmp_path / "by-hand")
    assert weights(made).keys() == weights(tmp_path / "by-hand").keys()
    assert all(torch.equal(weights(made)[n], t) for n, t in weights(tmp_path / "by-hand").items())


def test_rows_that_one_vocabulary_has_more(parents, tmp_path):
    short, long = parents[0], parents[3]
    with pytest.raises(UserError, match=r"embed_tokens.weight has \d+ and \d+ rows .* `rows: larger`"):
        merged(tmp_path / "no", [short, long])
    name = "model.embed_tokens.weight"
    a, b = weights(short)[name], weights(long)[name]
    larger = merged(tmp_path / "larger", [short, long], rows="larger", alpha=0.25)
    zeros = merged(tmp_path / "zeros", [short, long], rows="zeros", alpha=0.25)
    assert json.loads((larger / "config.json").read_text())["vocab_size"] == len(b) == len(a) + 1
    assert torch.equal(weights(larger)[name][-1], b[-1])
    assert torch.allclose(weights(zeros)[name][-1], 0.25 * b[-1])
    for made in (larger, zeros):
        assert torch.allclose(weights(made)[name][:-1], 0.75 * a + 0.25 * b[:-1])
        Qwen3ForCausalLM.from_pretrained(made)


@pytest.mark.parametrize("rows", ["larger", "zeros"])
def test_a_graft_of_a_larger_vocabulary_has_its_rows(parents, tmp_path, rows):
    short, long = parents[0], parents[3]
    made = merged(tmp_path, [short, long], method="graft", layers=[2, 2], rows=rows)
    name = "model.embed_tokens.weight"
    a, b, found = (weights(folder)[name] for folder in (short, long, made))
    assert torch.equal(found[:-1], a)
    assert torch.equal(found[-1], b[-1] if rows == "larger" else torch.zeros_like(b[-1]))
    Qwen3ForCausalLM.from_pretrained(made)


def test_types_are_kept_or_asked_for(parents, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(parents[1], half)
    model = Qwen3ForCausalLM.from_pretrained(half, dtype=torch.bfloat16)
    model.save_pretrained(half)
    with pytest.raises(UserError, match="is float32 in the first model and bfloat16 in another; `stored`"):
        merged(tmp_path / "no", [parents[0], half])
    made = merged(tmp_path / "made", [parents[0], half], stored="bfloat16")
    assert {t.dtype for t in weights(made).values()} == {torch.bfloat16}
    assert json.loads((made / "config.json").read_text())["dtype"] == "bfloat16"
    assert json.loads((parents[0] / "config.json").read_text())["dtype"] == "float32"


def changed(parent, folder, **config):
    shutil.copytree(parent, folder)
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stated | config))
    return folder


def test_what_cannot_be_merged_is_refused_with_the_reason(parents, tmp_path):
    other = changed(parents[1], tmp_path / "other", model_type="llama")
    with pytest.raises(UserError, match="two architectures, qwen3 and llama"):
        merged(tmp_path / "a", [parents[0], other])
    packed = changed(parents[1], tmp_path / "packed", quantization_config={"bits": 4})
    with pytest.raises(UserError, match="packed is quantized"):
        merged(tmp_path / "b", [parents[0], packed])
    lacking = changed(parents[1], tmp_path / "lacking")
    tensors = load_file(lacking / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"only one of .* has the tensor model.norm.weight"):
        merged(tmp_path / "c", [parents[0], lacking])
    with pytest.raises(UserError, match=r"the graft ends at layer 3, and .* has 2"):
        merged(tmp_path / "d", parents[:2], method="graft", layers=[1, 3])
    swapped = changed(parents[1], tmp_path / "swapped")
    tokenizer = json.loads((swapped / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    a, b = [token for token, number in vocabulary.items() if number in (40, 41)]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    (swapped / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match=r"token 40 is .* merge models of one tokenizer"):
        merged(tmp_path / "e", [parents[0], swapped])
