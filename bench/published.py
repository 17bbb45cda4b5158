"""The published way of comparing two models, written anew from the description of its code.

It extracts the states of both models again for each measure, keeps all tokens of all layers of both in
float32, goes layer pair by layer pair, and calls the garbage collector after each CKA.
"""

import gc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BATCH = 8  # texts in a forward pass, here and in `hrsa.save_states`


def make_models(layers: int, width: int) -> list:
    """Two small random language models, so that extraction costs what it costs."""
    from transformers import AutoModel, Qwen3Config

    config = Qwen3Config(
        vocab_size=1000, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers - 1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=width // 4,
    )  # fmt: skip
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        models.append(AutoModel.from_config(config).eval())
    return models


def extract(model: torch.nn.Module, ids: Tensor) -> Tensor:
    """All hidden states of all tokens in memory: (layers, tokens, width)."""
    with torch.inference_mode():
        states = [
            torch.stack(model(batch, output_hidden_states=True).hidden_states) for batch in ids.split(BATCH)
        ]
    return torch.cat([s.flatten(1, 2) for s in states], dim=1)


def compare(both: Callable[[], list[Tensor]], ks: Sequence[int], collect: bool) -> dict[str, Tensor]:
    """Four measures; `both` gives the states of both models, anew for each of them."""
    found = {}
    x, y = both()
    layers = range(len(x))
    found["correlation"] = torch.tensor([[_correlation(x[i], y[j]) for j in layers] for i in layers])
    x, y = (torch.stack([_centred(layer) for layer in side]) for side in both())
    found["cka"] = torch.tensor([[_cka(x[i], y[j], collect) for j in layers] for i in layers])
    x, y = both()
    for i in layers:
        u, _, v = torch.linalg.svd(_centred(x[i]).T @ _centred(y[i]))
        found["rotation"] = u @ v
    x, y = both()
    found["overlap"] = torch.tensor([_overlap(x[i], y[i], ks) for i in layers])
    return found


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0, keepdim=True)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    covariance = (_centred(x) * _centred(y)).sum(0) / (len(x) - 1)
    return (covariance / (x.std(0) * y.std(0))).nanmean()


def _cka(x: Tensor, y: Tensor, collect: bool) -> Tensor:
    found = (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm() + 1e-12)
    if collect:
        gc.collect()
    return found


def _overlap(x: Tensor, y: Tensor, ks: Sequence[int]) -> list[Tensor]:
    """Jaccard overlap of cosine neighbours, a thousand tokens at a time."""
    lists = []
    for side in (x, y):
        unit = torch.nn.functional.normalize(side)
        parts = []
        for start in range(0, len(unit), 1024):
            near = unit[start : start + 1024] @ unit.T
            near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -torch.inf
            parts.append(near.topk(ks[-1]).indices)
        lists.append(torch.cat(parts))
    results = []
    for k in ks:
        shared = (lists[0][:, :k, None] == lists[1][:, None, :k]).any(2).sum(1)
        results.append((shared / (2 * k - shared)).mean())
    return results
