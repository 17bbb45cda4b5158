"""InfoNCE over a whole global batch, its variants and distillation, as one pure function of the vectors.

Equation 7 of the paper, for one query q with its positive p, over in-batch passages B and hard negatives N:

    L(q, p, B, N) = −log( exp(sim(q, p)/τ) / Σ_{d ∈ B ∪ N} exp(sim(q, d)/τ) ),    sim: cosine

The loss is the mean of L over all queries of the global batch, so its gradient does not depend on how
many processes hold the batch. In comments, Q is the number of these queries, P that of their passages,
G = P/Q the passages of one query, its positive first, and D a vector's width. A direction compares each
query, or its positive, with N candidates: all passages (N = P) or all queries (N = Q).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from realign.study.loss import Direction, Distillation, GuideMask, Loss

MASKED = float("-inf")  # a score that adds exp(−∞) = 0 to the sum


@dataclass(frozen=True)
class Labels:
    """What comes with the texts of a batch."""

    texts: Tensor | None = None  # (P): a number for each passage, equal for equal texts
    weights: Tensor | None = None  # (Q): how much each query counts; nothing means 1
    scores: Tensor | None = None  # (Q × G): a teacher's scores of each query's own passages
    guide: tuple[Tensor, Tensor] | None = None  # a guide model's unit vectors of queries and passages


@dataclass(frozen=True)
class Scored:
    """A loss and what else the scores say."""

    loss: Tensor
    accuracy: float  # share of queries whose positive scores highest
    masked: float  # passages that were left out, for each query


def contrastive_loss(
    queries: Tensor, passages: Tensor, settings: Loss, labels: Labels | None = None
) -> Scored:
    """The mean loss of all queries (Q × D) against all passages (P × D).

    With Matryoshka widths, the loss is the mean over vectors cut to these widths; accuracy and masked
    passages are those of the last one.
    """
    labels = labels or Labels()
    count, group = len(queries), len(passages) // len(queries)
    own = torch.arange(count, device=queries.device)
    positives = own * group  # (Q): the place of each query's positive
    losses = []
    for width in settings.matryoshka or (queries.shape[1],):
        q = F.normalize(queries[:, :width].float(), dim=-1)
        p = F.normalize(passages[:, :width].float(), dim=-1)
        cosines = {way: compared(way, q, p) for way in settings.directions}
        to_docs = cosines["query_to_doc"]  # (Q × P)
        left_out = false_negatives(cosines, settings, labels, group)
        scores = {way: _scores(way, cosines[way], left_out[way], settings, group) for way in cosines}
        targets = {"query_to_doc": positives, "doc_to_query": own}
        if settings.partition_mode == "per_direction":
            parts = [_nll(way, scores[way], targets[way], settings, labels) for way in scores]
            loss = sum(parts[1:], parts[0]) / len(parts)
        else:  # equation 7 where query_to_doc is alone, since B ∪ N are all P passages
            joint = torch.cat(list(scores.values()), dim=1) if len(scores) > 1 else scores["query_to_doc"]
            loss = _nll("query_to_doc", joint, positives, settings, labels)
        if (distillation := settings.distillation) is not None:
            student = own_passages(to_docs, group)
            distilled = distillation_loss(student, _teacher(distillation, labels, group), distillation)
            share = distillation.weight
            loss = (1 - share) * loss + share * _mean(distilled, labels.weights)
        losses.append(loss)
    with torch.no_grad():
        accuracy = (scores["query_to_doc"].argmax(dim=1) == positives).float().mean().item()
        masked = left_out["query_to_doc"].sum().item() / count
    return Scored(torch.stack(losses).mean(), accuracy, masked)


def compared(way: str, queries: Tensor, passages: Tensor) -> Tensor:
    """The inner products of a direction (Q × N): row i belongs to query i, in its place or its positive's."""
    left = queries if way.startswith("query") else passages[:: len(passages) // len(queries)]
    return left @ (passages if way.endswith("doc") else queries).T


def own_passages(to_docs: Tensor, group: int) -> Tensor:
    """What stands in a matrix (Q × P) at each query's own passages (Q × G)."""
    count = len(to_docs)
    places = torch.arange(count * group, device=to_docs.device).view(count, group)
    return to_docs.gather(1, places)


def _is_own(scores: Tensor, way: str, group: int) -> Tensor:
    """Which candidates belong to the query of their row (Q × N)."""
    owners = torch.arange(scores.shape[1], device=scores.device) // (group if way.endswith("doc") else 1)
    return owners == torch.arange(len(scores), device=scores.device).unsqueeze(1)


def _is_positive(scores: Tensor, way: str, group: int) -> Tensor:
    """Which candidate is the other half of the row's pair (Q × N): none among texts of the same kind."""
    found = torch.zeros_like(scores, dtype=torch.bool)
    if way in ("query_to_doc", "doc_to_query"):
        own = torch.arange(len(scores), device=scores.device)
        found[own, own * (group if way == "query_to_doc" else 1)] = True
    return found


def _scores(way: str, cosines: Tensor, left_out: Tensor, settings: Loss, group: int) -> Tensor:
    """Cosines/τ of a direction (Q × N), harder negatives raised, what does not count at −∞."""
    scores = cosines / settings.temperature
    own = _is_own(cosines, way, group)
    if settings.hardness_mode and way == "query_to_doc":
        harder = {"in_batch_negatives": ~own, "hard_negatives": own}.get(
            settings.hardness_mode, torch.ones_like(own)
        ) & ~_is_positive(cosines, way, group)
        scores = scores + settings.hardness_strength * cosines.detach() * harder
    if way in ("query_to_query", "doc_to_doc"):
        left_out = left_out | own
    elif not settings.in_batch_negatives:
        left_out = left_out | ~own
    return scores.masked_fill(left_out, MASKED)


def false_negatives(
    cosines: Mapping[Direction, Tensor], settings: Loss, labels: Labels, group: int
) -> dict[Direction, Tensor]:
    """Which candidates of each direction are likely positives (Q × N); never the row's own positive."""
    found: dict[Direction, Tensor] = {}
    for way, block in cosines.items():
        block = block.detach()
        left_out = torch.zeros_like(block, dtype=torch.bool)
        if settings.mask_margin is not None:
            positive = own_passages(cosines["query_to_doc"].detach(), group)[:, :1]
            left_out |= block > positive + settings.mask_margin
        if settings.guide is not None:
            left_out |= _guided(way, settings.guide, labels, group)
        if settings.mask_scope == "in_batch":
            left_out &= ~_is_own(block, way, group)
        if settings.mask_same_text:
            if labels.texts is None:
                raise ValueError("leaving out repeated positives needs the numbers of the texts")
            ours = labels.texts[::group]  # (Q): the positives'
            theirs = labels.texts if way.endswith("doc") else ours
            left_out |= ours.unsqueeze(1) == theirs.unsqueeze(0)
        found[way] = left_out & ~_is_positive(block, way, group)
    return found


def _guided(way: str, mask: GuideMask, labels: Labels, group: int) -> Tensor:
    """Which candidates the guide takes for positives (Q × N)."""
    if labels.guide is None:
        raise ValueError("masking by a guide model needs its vectors")
    queries, passages = labels.guide
    positive = (queries * passages[::group]).sum(dim=1, keepdim=True)
    margin = mask.margin * (positive.abs() if mask.margin_strategy == "relative" else 1)
    return compared(way, queries, passages) > positive - margin


def _nll(way: str, scores: Tensor, targets: Tensor, settings: Loss, labels: Labels) -> Tensor:
    """The mean over queries of −log softmax at their positive."""
    if settings.debias and way == "query_to_doc":
        return _mean(_debiased(scores, targets, settings), labels.weights)
    if labels.weights is None:
        return F.cross_entropy(scores, targets)
    return _mean(F.cross_entropy(scores, targets, reduction="none"), labels.weights)


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of the queries' losses (Q); a weight of 2 counts as much as the query would twice."""
    return (losses if weights is None else losses * weights).mean()


def _debiased(scores: Tensor, positives: Tensor, settings: Loss) -> Tensor:
    """Each query's debiased loss (Chuang et al., 2020) from scores s = cosine/τ (Q × P).

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
    return torch.log(positive + g) - (own - top)


def _teacher(settings: Distillation, labels: Labels, group: int) -> Tensor:
    """The teacher's scores of each query's own passages (Q × G)."""
    if settings.teacher == "scores":
        if labels.scores is None:
            raise ValueError("distillation needs the rows' scores")
        return labels.scores
    if labels.guide is None:
        raise ValueError("distillation from a guide model needs its vectors")
    queries, passages = labels.guide
    return (queries.unsqueeze(1) * passages.view(len(queries), group, -1)).sum(dim=-1)


def distillation_loss(student: Tensor, teacher: Tensor, settings: Distillation) -> Tensor:
    """Each query's loss (Q) from the student's cosines s and a teacher's scores t of its passages (Q × G).

    kl_div:      T²·Σ_j π_j·log(π_j / ρ_j),   π = softmax(t/T′), ρ = softmax(s/T)
    margin_mse:  mean over j ≥ 1 of ( (s_0 − s_j)/T − (t_0 − t_j)/T′ )²
    """
    s, t = student / settings.student_temperature, teacher / settings.teacher_temperature
    if settings.loss == "kl_div":
        divergence = F.kl_div(s.log_softmax(dim=1), t.softmax(dim=1), reduction="none").sum(dim=1)
        return divergence * settings.student_temperature**2
    return ((s[:, :1] - s[:, 1:]) - (t[:, :1] - t[:, 1:])).square().mean(dim=1)
