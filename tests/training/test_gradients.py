"""The gradient of every way to compute it, against plain autograd of the whole batch on one process."""

import itertools
import json
import os
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from realign.engine.launch import launch

TOLERANCE = 1e-5
STEPS = 5
SETTINGS = {"attention": "bidirectional", "pooling": "mean", "max_length": 64}


def make_batch(seed, queries=7, negatives=2, prompts=True):
    """Texts of very uneven lengths, as token ids; queries open with instructions of uneven lengths."""
    draw = random.Random(seed)

    def text(shortest=3):
        return [draw.randrange(2, 250) for _ in range(draw.choice([shortest, shortest + 2, 9, 17, 30]))]

    group = negatives + 1
    lengths = [draw.randrange(1, 3) if prompts else 0 for _ in range(queries)]
    return {
        "queries": [text(4) for _ in range(queries)],
        "prompts": lengths,
        "passages": [text() for _ in range(queries * group)],
        "texts": list(range(queries * group)),
        "group": group,
    }


BATCHES = {
    "negatives": [make_batch(s) for s in range(STEPS)],
    "in-batch": [make_batch(s, negatives=0) for s in range(STEPS)],
    "plain": [make_batch(s, prompts=False) for s in range(STEPS)],
}


def plain_vectors(model, ids, prompts):
    """One text at a time, without padding: nothing of the package's batching, pooling or masks."""
    vectors = []
    for row, prompt in zip(ids, prompts, strict=True):
        states = model(input_ids=torch.tensor([row])).last_hidden_state[0]
        vectors.append(F.normalize(states[prompt:].mean(dim=0), dim=0))
    return torch.stack(vectors)


def plain_run(backbone, batches, optimizer, clip=0.0):
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(backbone)
    config.is_causal, config.use_cache = False, False
    model = AutoModel.from_pretrained(backbone, config=config, dtype=torch.float32).train()
    made = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.1),
        "adamw": lambda: torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05),
    }[optimizer]()
    found, losses = {}, []
    for number, data in enumerate(batches):
        queries = plain_vectors(model, data["queries"], data["prompts"])
        passages = plain_vectors(model, data["passages"], [0] * len(data["passages"]))
        targets = torch.arange(len(queries)) * data["group"]
        loss = F.cross_entropy(queries @ passages.T / 0.05, targets)
        made.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if number == 0:
            found |= {f"gradient/model.{n}": p.grad.clone() for n, p in model.named_parameters()}
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        made.step()
    found |= {f"stepped/model.{n}": p.detach().clone() for n, p in model.named_parameters()}
    return found, losses


def all_cases():
    """(ZeRO stage) × (cached or not) × (chunks) × (instructions, negatives) × (reduction) × (optimiser)."""
    cases = {}
    for stage, data, optimizer in itertools.product(range(4), BATCHES, ("sgd", "adamw")):
        ways = {"whole": (10**6, False), "chunks": (70, False)}
        if stage:
            ways["once"] = (33, True)
        for way, (budget, once) in ways.items():
            cases[f"{way}-zero{stage}-{data}-{optimizer}"] = {
                "stage": stage,
                "data": data,
                "optimizer": optimizer,
                "budget": budget,
                "reduce_once": once,
                "loss": {"temperature": 0.05},
            }
    return cases


def measure(backbone, place, cases, processes, **settings):
    spec = {
        "model": str(backbone),
        "settings": SETTINGS | settings,
        "cases": cases,
        "batches": BATCHES,
        "out": str(place),
    }
    launch("gradient_worker", spec, place / "spec.json", processes, threads=1)
    return {
        name: (load_file(place / f"{name}.safetensors"), json.loads((place / f"{name}.json").read_text()))
        for name in cases
    }


def distance(found, expected):
    return ((found - expected).norm() / expected.norm().clamp(min=1e-30)).item()


@pytest.fixture(scope="module")
def plain(tiny_backbone):
    """The plain run of each data set and optimiser, made once."""
    torch.set_num_threads(1)
    return {
        (data, optimizer): plain_run(tiny_backbone, batches, optimizer)
        for data, batches in BATCHES.items()
        for optimizer in ("sgd", "adamw")
    }


@pytest.fixture(autouse=True)
def worker_module(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


def compare(results, cases, plain):
    """The largest distances over all cases and tensors, each within its tolerance."""
    worst = {"gradient": 0.0, "sgd": 0.0, "adamw": 0.0}
    for name, (found, facts) in results.items():
        case = cases[name]
        expected, losses = plain[case["data"], case["optimizer"]]
        assert [f["loss"] for f in facts] == pytest.approx(losses, rel=1e-4), name
        assert set(found) == set(expected)
        for tensor, value in found.items():
            kind = "gradient" if tensor.startswith("gradient") else case["optimizer"]
            off = distance(value, expected[tensor])
            # Adam divides by the gradient's own size, so where that is tiny rounding grows
            limit = 1e-4 if kind == "adamw" else TOLERANCE
            assert off <= limit, (name, tensor, off)
            worst[kind] = max(worst[kind], off)
        assert (facts[0]["chunks"] == 1) == name.startswith("whole")
    return worst


def test_one_process_equals_plain_autograd(tiny_backbone, tmp_path, plain):
    names = ("chunks-zero0-negatives-sgd", "once-zero2-negatives-sgd", "whole-zero3-in-batch-sgd")
    cases = {name: all_cases()[name] for name in names}
    compare(measure(tiny_backbone, tmp_path, cases, 1), cases, plain)


def test_two_processes_equal_plain_autograd(tiny_backbone, tmp_path, plain):
    names = ("chunks-zero1-negatives-sgd", "chunks-zero3-plain-adamw", "once-zero3-negatives-sgd")
    cases = {name: all_cases()[name] for name in names}
    compare(measure(tiny_backbone, tmp_path, cases, 2), cases, plain)


def test_texts_packed_without_padding_equal_plain_autograd(tiny_backbone, tmp_path, plain):
    cases = {name: all_cases()[name] for name in ("chunks-zero2-negatives-sgd", "whole-zero0-negatives-sgd")}
    results = measure(tiny_backbone, tmp_path, cases, 1, attn_implementation="packed")
    compare(results, cases, plain)
    assert all(f["padded"] == f["tokens"] for _, facts in results.values() for f in facts)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_whole_table(tiny_backbone, tmp_path, plain, processes):
    cases = all_cases()
    worst = compare(measure(tiny_backbone, tmp_path, cases, processes), cases, plain)
    print(f"\n{processes} processes, {len(cases)} cases: {worst}")
