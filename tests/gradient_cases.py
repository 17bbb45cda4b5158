"""Batches, plain autograd of them, and runs of `training/gradient_worker.py`, for tests of gradients."""

import json
import os
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from realign.engine.launch import launch
from realign.study.loss import Loss
from realign.training.loss import Labels, contrastive_loss

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


# Each option of the loss, for batches with one hard negative or more.
OPTIONS = {
    "all-directions": {
        "directions": ["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"],
        "temperature": 0.05,
    },
    "symmetric": {
        "directions": ["query_to_doc", "doc_to_query"],
        "partition_mode": "per_direction",
        "mask_same_text": True,
    },
    "hardness": {"hardness_mode": "all_negatives", "hardness_strength": 5.0, "temperature": 0.05},
    "own-negatives": {"in_batch_negatives": False},
    "guide": {
        "guide": {"margin": 0.1},
        "mask_scope": "in_batch",
        "directions": ["query_to_doc", "doc_to_doc"],
    },
    "kl-div": {"distillation": {"weight": 0.5, "student_temperature": 0.05}},
    "margin-mse": {"distillation": {"loss": "margin_mse", "teacher": "guide"}, "matryoshka": [8, 32]},
}


def labels_of(queries, group, seed=0):
    """Labels of all kinds for a batch: repeated texts, weights, a teacher's scores and a guide's vectors."""
    draw = torch.Generator().manual_seed(seed)
    guide = [F.normalize(torch.randn(n, 6, generator=draw), dim=1) for n in (queries, queries * group)]
    return Labels(
        torch.randint(0, queries * group // 2, (queries * group,), generator=draw),
        torch.rand(queries, generator=draw) + 0.5,
        torch.randn(queries, group, generator=draw),
        (guide[0], guide[1]),
    )


def plain_vectors(model, ids, prompts):
    """One text at a time, without padding: nothing of the package's batching, pooling or masks."""
    vectors = []
    for row, prompt in zip(ids, prompts, strict=True):
        states = model(input_ids=torch.tensor([row])).last_hidden_state[0]
        vectors.append(F.normalize(states[prompt:].mean(dim=0), dim=0))
    return torch.stack(vectors)


def plain_run(backbone, batches, optimizer, clip=0.0, option=None):
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
        if option is None:
            loss = F.cross_entropy(queries @ passages.T / 0.05, targets)
        else:  # the loss as it is, which other tests hold to the library's: here its vectors are plain
            labels = labels_of(len(queries), data["group"])
            loss = contrastive_loss(queries, passages, Loss(**OPTIONS[option]), labels).loss
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


def measure(backbone, place, cases, processes, batches=BATCHES, **settings):
    spec = {
        "model": str(backbone),
        "settings": SETTINGS | settings,
        "cases": cases,
        "batches": batches,
        "out": str(place),
    }
    with pytest.MonkeyPatch.context() as patch:
        for folder in (Path(__file__).parent, Path(__file__).parent / "training"):
            patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        launch("gradient_worker", spec, place / "spec.json", processes, threads=1)
    return {
        name: (load_file(place / f"{name}.safetensors"), json.loads((place / f"{name}.json").read_text()))
        for name in cases
    }


def distance(found, expected):
    return ((found - expected).norm() / expected.norm().clamp(min=1e-30)).item()
