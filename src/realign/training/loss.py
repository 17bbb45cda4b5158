"""InfoNCE over a whole global batch, and its variants, as one pure function of the vectors.

Passages come in groups: each query's positive first, then its hard negatives. Every query sees the
passages of all queries. The loss is the mean over all queries of the global batch, so its gradient
does not depend on how many processes hold the batch.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from realign.study.recipe import Loss

MASKED = float("-inf")


@dataclass(frozen=True)
class Scored:
    """A loss and what else the scores say."""

    loss: Tensor
    accuracy: float  # share of queries whose positive scores highest
    masked: float  # passages that were left out, for each query


def contrastive_loss(queries: Tensor, passages: Tensor, how: Loss, texts: Tensor | None = None) -> Scored:
    """The mean loss of all queries against all passages.

    `texts` holds a number for each passage, equal for equal texts; it is needed to leave out
    passages that repeat a positive.
    """
    widths = how.matryoshka or (queries.shape[1],)
    parts = [_at_width(queries[:, :w], passages[:, :w], how, texts) for w in widths]
    loss = torch.stack([part.loss for part in parts]).mean()
    return Scored(loss, parts[-1].accuracy, parts[-1].masked)


def _at_width(queries: Tensor, passages: Tensor, how: Loss, texts: Tensor | None) -> Scored:
    queries, passages = F.normalize(queries.float(), dim=-1), F.normalize(passages.float(), dim=-1)
    group = len(passages) // len(queries)
    targets = torch.arange(len(queries), device=queries.device) * group
    cosines = queries @ passages.T
    left_out = false_negatives(cosines.detach(), targets, how, texts)
    scores = (cosines / how.temperature).masked_fill(left_out, MASKED)
    loss = _debiased(scores, targets, how) if how.debias else F.cross_entropy(scores, targets)
    if how.symmetric:
        back = passages[targets] @ queries.T / how.temperature
        own = torch.arange(len(queries), device=queries.device)
        back = back.masked_fill(_repeated_positives(texts, targets, how), MASKED)
        loss = (loss + F.cross_entropy(back, own)) / 2
    with torch.no_grad():
        accuracy = (scores.argmax(dim=1) == targets).float().mean().item()
        masked = left_out.sum().item() / len(queries)
    return Scored(loss, accuracy, masked)


def false_negatives(cosines: Tensor, targets: Tensor, how: Loss, texts: Tensor | None) -> Tensor:
    """Which passages a query does not count as negatives; never its own positive."""
    left_out = torch.zeros_like(cosines, dtype=torch.bool)
    if how.mask_same_text:
        if texts is None:
            raise ValueError("leaving out repeated positives needs the numbers of the texts")
        left_out |= texts[targets].unsqueeze(1) == texts.unsqueeze(0)
    if how.mask_margin is not None:
        own = cosines.gather(1, targets.unsqueeze(1))
        left_out |= cosines > own + how.mask_margin
    left_out[torch.arange(len(targets), device=targets.device), targets] = False
    return left_out


def _repeated_positives(texts: Tensor | None, targets: Tensor, how: Loss) -> Tensor:
    """Which queries have the same positive as another one, seen from the positive's side."""
    count = len(targets)
    if not how.mask_same_text or texts is None:
        return torch.zeros(count, count, dtype=torch.bool, device=targets.device)
    same = texts[targets].unsqueeze(1) == texts[targets].unsqueeze(0)
    return same.fill_diagonal_(False)


def _debiased(scores: Tensor, targets: Tensor, how: Loss) -> Tensor:
    """The debiased loss (Chuang et al., 2020): the positives expected among the negatives are taken off.

    Everything is divided by exp(1/temperature), the largest value there can be, to stay finite.
    """
    top = 1 / how.temperature
    own = scores.gather(1, targets.unsqueeze(1)).squeeze(1)
    shifted = (scores - top).exp()
    positive = (own - top).exp()
    negatives = shifted.sum(dim=1) - positive
    count = torch.isfinite(scores).sum(dim=1) - 1
    corrected = (negatives - how.debias * count * positive) / (1 - how.debias)
    floor = count * math.exp(max(-2 * top, -80.0))
    corrected = torch.maximum(corrected, floor.to(corrected))
    return (torch.log(positive + corrected) - (own - top)).mean()
