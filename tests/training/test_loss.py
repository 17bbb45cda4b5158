import math

import pytest
import torch
import torch.nn.functional as F

from realign.study.loss import Distillation, Loss
from realign.training.loss import Labels, contrastive_loss, false_negatives

TEMPERATURE = 0.1


def vectors(queries=5, group=3, width=8, seed=0):
    torch.manual_seed(seed)
    return torch.randn(queries, width, dtype=torch.float64), torch.randn(queries * group, width).double()


def by_hand(queries, passages, group, keep=None):
    """The loss as equation 7 of the paper spells it, one query at a time."""
    total = 0.0
    for i, query in enumerate(queries):
        cosines = [F.cosine_similarity(query, p, dim=0).item() for p in passages]
        kept = [j for j in range(len(passages)) if keep is None or keep(i, j, cosines)]
        bottom = sum(math.exp(cosines[j] / TEMPERATURE) for j in kept)
        total -= math.log(math.exp(cosines[i * group] / TEMPERATURE) / bottom)
    return total / len(queries)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_it_is_the_papers_loss(group):
    queries, passages = vectors(group=group)
    found = contrastive_loss(queries, passages, Loss(temperature=TEMPERATURE))
    assert found.loss.item() == pytest.approx(by_hand(queries, passages, group), rel=1e-5)


def test_passages_that_repeat_a_positive_are_left_out_but_never_the_own_one():
    queries, passages = vectors()
    texts = torch.tensor([1, 2, 3, 1, 5, 6, 7, 1, 9, 10, 11, 12, 13, 14, 15])
    found = contrastive_loss(
        queries, passages, Loss(temperature=TEMPERATURE, mask_same_text=True), Labels(texts)
    )
    keep = lambda i, j, _: j == i * 3 or texts[j] != texts[i * 3]  # noqa: E731
    assert found.loss.item() == pytest.approx(by_hand(queries, passages, 3, keep), rel=1e-5)
    assert found.masked == pytest.approx((2 + 2) / 5)


def test_passages_above_the_margin_are_left_out():
    queries, passages = vectors()
    how = Loss(temperature=TEMPERATURE, mask_margin=0.1)
    keep = lambda i, j, cosines: j == i * 3 or cosines[j] <= cosines[i * 3] + 0.1  # noqa: E731
    found = contrastive_loss(queries, passages, how)
    assert found.masked > 0
    assert found.loss.item() == pytest.approx(by_hand(queries, passages, 3, keep), rel=1e-5)


def test_a_margin_of_minus_two_masks_all_but_the_positive():
    queries, passages = vectors()
    found = contrastive_loss(queries, passages, Loss(mask_margin=-3.0))
    assert found.loss.item() == 0
    cosines = F.normalize(queries, dim=1) @ F.normalize(passages, dim=1).T
    left_out = false_negatives({"query_to_doc": cosines}, Loss(mask_margin=-3.0), Labels(), 3)
    assert left_out["query_to_doc"].sum() == 5 * 14


def test_the_symmetric_loss_is_the_mean_of_both_directions():
    queries, passages = vectors()
    how = Loss(
        temperature=TEMPERATURE,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    both = contrastive_loss(queries, passages, how).loss
    back = by_hand(passages[::3], queries, 1)
    assert both.item() == pytest.approx((by_hand(queries, passages, 3) + back) / 2, rel=1e-5)


def test_matryoshka_is_the_mean_over_widths():
    queries, passages = vectors()
    found = contrastive_loss(queries, passages, Loss(temperature=TEMPERATURE, matryoshka=(2, 4, 8)))
    parts = [by_hand(queries[:, :w], passages[:, :w], 3) for w in (2, 4, 8)]
    assert found.loss.item() == pytest.approx(sum(parts) / 3, rel=1e-5)


def test_the_debiased_loss_is_chuangs():
    queries, passages = vectors()
    share = 0.1
    total = 0.0
    for i, query in enumerate(queries):
        scores = [F.cosine_similarity(query, p, dim=0).item() / TEMPERATURE for p in passages]
        positive = math.exp(scores[i * 3])
        others = [math.exp(s) for j, s in enumerate(scores) if j != i * 3]
        corrected = (sum(others) - share * len(others) * positive) / (1 - share)
        corrected = max(corrected, len(others) * math.exp(-1 / TEMPERATURE))
        total -= math.log(positive / (positive + corrected))
    found = contrastive_loss(queries, passages, Loss(temperature=TEMPERATURE, debias=share))
    assert found.loss.item() == pytest.approx(total / 5, rel=1e-4)


def test_the_debiased_loss_tends_to_the_plain_one_and_stays_finite_at_the_papers_temperature():
    queries, passages = vectors()
    plain = contrastive_loss(queries, passages, Loss(temperature=0.02)).loss
    assert contrastive_loss(queries, passages, Loss(temperature=0.02, debias=1e-9)).loss == pytest.approx(
        plain.item(), rel=1e-4
    )
    same = torch.ones(4, 8, requires_grad=True)
    loss = contrastive_loss(same, torch.ones(8, 8), Loss(temperature=0.02, debias=0.5)).loss
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(same.grad).all()


def test_scale_of_the_vectors_does_not_matter_and_direction_does():
    queries, passages = vectors()
    how = Loss(temperature=TEMPERATURE)
    plain = contrastive_loss(queries, passages, how).loss
    assert contrastive_loss(3 * queries, 0.2 * passages, how).loss.item() == pytest.approx(plain.item())
    assert contrastive_loss(queries.flip(0), passages, how).loss.item() != pytest.approx(
        plain.item(), rel=1e-2
    )


def test_without_in_batch_negatives_a_query_meets_its_own_passages_alone():
    queries, passages = vectors()
    found = contrastive_loss(queries, passages, Loss(temperature=TEMPERATURE, in_batch_negatives=False))
    own = lambda i, j, _: j // 3 == i  # noqa: E731
    assert found.loss.item() == pytest.approx(by_hand(queries, passages, 3, own), rel=1e-5)
    assert found.masked == 0


def test_a_mask_of_in_batch_scope_spares_the_querys_own_hard_negatives():
    queries, passages = vectors()
    how = Loss(temperature=TEMPERATURE, mask_margin=-0.1, mask_scope="in_batch")
    keep = lambda i, j, cosines: j // 3 == i or cosines[j] <= cosines[i * 3] - 0.1  # noqa: E731
    found = contrastive_loss(queries, passages, how)
    assert found.loss.item() == pytest.approx(by_hand(queries, passages, 3, keep), rel=1e-5)
    everywhere = contrastive_loss(queries, passages, how.model_copy(update={"mask_scope": "all"}))
    assert everywhere.masked > found.masked > 0


@pytest.mark.parametrize(
    "how",
    [Loss(), Loss(debias=0.1), Loss(distillation=Distillation(weight=0.5))],
    ids=["plain", "debiased", "distilled"],
)
def test_a_weight_counts_a_query_as_often_as_it_says(how):
    queries, passages = vectors()
    weights = torch.tensor([2.0, 1.0, 0.0, 1.0, 0.5])
    scores = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    alone = [  # each query's loss, the others having no weight
        contrastive_loss(queries, passages, how, Labels(weights=one, scores=scores)).loss
        for one in torch.eye(5)
    ]
    found = contrastive_loss(queries, passages, how, Labels(weights=weights, scores=scores)).loss
    assert found.item() == pytest.approx((torch.stack(alone) @ weights).item(), rel=1e-5)
    plain = contrastive_loss(queries, passages, how, Labels(scores=scores)).loss
    assert plain.item() == pytest.approx(sum(alone).item(), rel=1e-5)


def test_distillation_takes_its_share_of_the_loss():
    queries, passages = vectors()
    labels = Labels(scores=torch.rand(5, 3, generator=torch.Generator().manual_seed(0)))
    contrastive = contrastive_loss(queries, passages, Loss()).loss
    distilled = contrastive_loss(queries, passages, Loss(distillation=Distillation()), labels).loss
    both = contrastive_loss(queries, passages, Loss(distillation=Distillation(weight=0.25)), labels).loss
    assert both.item() == pytest.approx(0.75 * contrastive.item() + 0.25 * distilled.item(), rel=1e-5)


def test_a_guide_teaches_by_its_cosines():
    queries, passages = vectors()
    guide = F.normalize(queries.float().flip(1), dim=1), F.normalize(passages.float().flip(0), dim=1)
    scores = torch.stack([guide[1][3 * i : 3 * i + 3] @ guide[0][i] for i in range(5)])
    by_guide, by_rows = Distillation(teacher="guide"), Distillation(teacher="scores")
    found = contrastive_loss(queries, passages, Loss(distillation=by_guide), Labels(guide=guide)).loss
    expected = contrastive_loss(queries, passages, Loss(distillation=by_rows), Labels(scores=scores)).loss
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"directions": ["doc_to_query"]}, "query_to_doc"),
        ({"directions": ["query_to_doc", "doc_to_doc"], "partition_mode": "per_direction"}, "doc_to_doc"),
        ({"directions": ["query_to_doc", "doc_to_query"], "in_batch_negatives": False}, "only direction"),
        ({"hardness_mode": "hard_negatives"}, "go together"),
        ({"debias": 0.1, "hardness_mode": "hard_negatives", "hardness_strength": 1}, "debias"),
    ],
)
def test_options_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Loss(**settings)
