"""InfoNCE over a whole global batch, and its variants, as one pure function of the vectors.

Equation 7 of the paper, for one query q with its positive p, over in-batch passages B and hard negatives N:

    L(q, p, B, N) = −log( exp(sim(q, p)/τ) / Σ_{d ∈ B ∪ N} exp(sim(q, d)/τ) ),    sim: cosine

The loss is the mean of L over all queries of the global batch, so its gradient does not depend on how
many processes hold the batch. In comments, Q is the number of these queries, P that of their passages,
and D a vector's width. Passages come in groups of P/Q: a query's positive first, then its hard negatives.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from realign.study.recipe import Loss

MASKED = float("-inf")  # a score that adds exp(−∞) = 0 to the sum


@dataclass(frozen=True)
class Scored:
    """A loss and what else the scores say."""

    loss: Tensor
    accuracy: float  # share of queries whose positive scores highest
    masked: float  # passages that were left out, for each query


def contrastive_loss(
    queries: Tensor, passages: Tensor, settings: Loss, texts: Tensor | None = None
) -> Scored:
    """The mean loss of all queries (Q × D) against all passages (P × D).

    `texts` (P) holds a number for each passage, equal for equal texts. Masking passages that repeat a
    positive needs it. With Matryoshka widths, the loss is the mean over vectors cut to these widths;
    accuracy and masked passages are those of the last one.
    """
    count = len(queries)
    own = torch.arange(count, device=queries.device)
    positives = own * (len(passages) // count)  # (Q): the place of each query's positive
    losses = []
    for width in settings.matryoshka or (queries.shape[1],):
        q = F.normalize(queries[:, :width].float(), dim=-1)
        p = F.normalize(passages[:, :width].float(), dim=-1)
        cosines = q @ p.T  # (Q × P)
        left_out = false_negatives(cosines.detach(), positives, settings, texts)
        scores = (cosines / settings.temperature).masked_fill(left_out, MASKED)
        if settings.debias:
            loss = _debiased(scores, positives, settings)
        else:
            loss = F.cross_entropy(scores, positives)  # equation 7, since B ∪ N are all P passages
        if settings.symmetric:  # each positive also finds its query among all queries
            back = p[positives] @ q.T / settings.temperature  # (Q × Q)
            if settings.mask_same_text and texts is not None:
                repeated = texts[positives].unsqueeze(1) == texts[positives].unsqueeze(0)
                back = back.masked_fill(repeated.fill_diagonal_(False), MASKED)
            loss = (loss + F.cross_entropy(back, own)) / 2
        losses.append(loss)
    with torch.no_grad():
        accuracy = (scores.argmax(dim=1) == positives).float().mean().item()
        masked = left_out.sum().item() / count
    return Scored(torch.stack(losses).mean(), accuracy, masked)


def false_negatives(cosines: Tensor, positives: Tensor, settings: Loss, texts: Tensor | None) -> Tensor:
    """Which passages a query does not count as negatives (Q × P); never its own positive."""
    left_out = torch.zeros_like(cosines, dtype=torch.bool)
    if settings.mask_same_text:
        if texts is None:
            raise ValueError("leaving out repeated positives needs the numbers of the texts")
        left_out |= texts[positives].unsqueeze(1) == texts.unsqueeze(0)
    if settings.mask_margin is not None:
        left_out |= cosines > cosines.gather(1, positives.unsqueeze(1)) + settings.mask_margin
    left_out[torch.arange(len(positives), device=positives.device), positives] = False
    return left_out


def _debiased(scores: Tensor, positives: Tensor, settings: Loss) -> Tensor:
    """The debiased loss (Chuang et al., 2020) of scores s = cosine/τ (Q × P).

    Among n sampled negatives a share τ⁺ are expected to be positives, which are subtracted:

        g = max( (Σ exp(s⁻) − n·τ⁺·exp(s⁺)) / (1 − τ⁺),  n·exp(−1/τ) ),    L = −log( exp(s⁺) / (exp(s⁺) + g) )

    All terms are divided by exp(1/τ), the largest value that exp(s) can have, so that they stay finite.
    """
    top = 1 / settings.temperature
    own = scores.gather(1, positives.unsqueeze(1)).squeeze(1)  # (Q): s⁺
    positive = (own - top).exp()
    negatives = (scores - top).exp().sum(dim=1) - positive
    count = torch.isfinite(scores).sum(dim=1) - 1  # (Q): n, without masked passages
    g = (negatives - settings.debias * count * positive) / (1 - settings.debias)
    floor = count * math.exp(max(-2 * top, -80.0))  # 1/exp(−80) still fits into fp32
    g = torch.maximum(g, floor.to(g))
    return (torch.log(positive + g) - (own - top)).mean()
