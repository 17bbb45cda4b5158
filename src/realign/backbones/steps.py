"""One step of next-token prediction on packed blocks, which pretraining and fine-tuning share."""

from functools import partial
from typing import Any

import torch

from realign.backbones.logprobs import logits_fit, logprobs_of
from realign.backbones.loop import Chunk, Facts, Learner
from realign.backbones.packing import IGNORED, Blocks


def language_step(learner: Learner, blocks: Blocks, mine: slice, micro_batch: int, rate: float) -> Facts:
    """One step of next-token prediction; the loss is the mean over all learned tokens of the step."""
    targets = blocks.targets
    rows = range(len(blocks))[mine]
    parts = [rows[i : i + micro_batch] for i in range(0, len(rows), micro_batch)]
    chunks: list[Chunk] = [
        partial(_language_loss, blocks.take(part).to(learner.world.device), targets) for part in parts
    ]
    return {**learner.update(chunks, rate), "tokens": float(targets)}


def _language_loss(blocks: Blocks, targets: int, model: Any) -> torch.Tensor:
    inputs: dict[str, Any] = {
        "input_ids": blocks.tokens,
        "position_ids": blocks.positions,
        "use_cache": False,
    }
    # Labels move, not logits: a shifted view of the logits would be copied, forwards and backwards.
    labels = torch.nn.functional.pad(blocks.labels[:, 1:], (0, 1), value=IGNORED)
    if not logits_fit(model, labels):
        learned = labels != IGNORED
        return -(logprobs_of(model, labels.clamp(min=0), **inputs) * learned).sum() / targets
    flat = model(**inputs).logits.float().flatten(0, 1)
    return torch.nn.functional.cross_entropy(flat, labels.flatten(), reduction="sum") / targets
