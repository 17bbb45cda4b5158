"""The loss and its gradient for each option that sentence-transformers has too, on the same vectors."""

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.util import pairwise_cos_sim

from realign.study.loss import Distillation, GuideMask, Loss
from realign.training.loss import Labels, contrastive_loss

TEMPERATURE = 0.07
ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def vectors(group, queries=6, width=10, seed=3):
    draw = torch.Generator().manual_seed(seed)
    made = torch.randn(queries, width, generator=draw), torch.randn(queries * group, width, generator=draw)
    return tuple(part.requires_grad_() for part in made)


def columns(queries, passages):
    """The library's input: queries, positives, first negatives, …"""
    group = len(passages) // len(queries)
    return [queries, *(passages[place::group] for place in range(group))]


def assert_equal(ours, theirs, queries, passages):
    """The same loss, and the same gradient on every vector, to 1e-5."""
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    expected = torch.autograd.grad(theirs, (queries, passages))
    for found, wanted in zip(torch.autograd.grad(ours, (queries, passages)), expected, strict=True):
        assert wanted.norm() > 0
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"directions": ("query_to_doc", "query_to_query")},
        {"directions": ("query_to_doc", "doc_to_doc")},
        {"directions": ("query_to_doc", "doc_to_query")},
        {"directions": ALL},
        {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"},
        {"hardness_mode": "in_batch_negatives", "hardness_strength": 9.0},
        {"hardness_mode": "hard_negatives", "hardness_strength": 5.0},
        {"hardness_mode": "all_negatives", "hardness_strength": 5.0, "directions": ALL},
    ],
    ids=lambda options: "-".join(map(str, options)) or "plain",
)
def test_directions_and_hardness_weighting_are_the_librarys(options, group):
    queries, passages = vectors(group)
    library = losses.MultipleNegativesRankingLoss(None, scale=1 / TEMPERATURE, **options)
    theirs = library.compute_loss_from_embeddings(columns(queries, passages), None)
    ours = contrastive_loss(queries, passages, Loss(temperature=TEMPERATURE, **options)).loss
    assert_equal(ours, theirs, queries, passages)


class Given:
    """A model that gives vectors already made, column by column, as the library's losses ask for them."""

    max_seq_length = 64

    def __init__(self, tokenizer, made):
        self.tokenizer, self.made = tokenizer, iter(made)

    def __call__(self, _):
        return {"sentence_embedding": next(self.made)}


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_backbone)


@pytest.mark.parametrize("strategy", ["absolute", "relative"])
@pytest.mark.parametrize(
    ("group", "anchors", "positives"),
    [(1, True, True), (1, False, False), (2, True, False), (2, False, False)],
)
def test_a_guide_model_masks_as_in_the_library(tokenizer, strategy, group, anchors, positives):
    queries, passages = vectors(group)
    # The guide sees positives near their queries, and some other passages near them too.
    draw = torch.Generator().manual_seed(5)
    guide_queries = torch.randn(6, 10, generator=draw)
    guide_passages = guide_queries.repeat_interleave(group, 0) + 2 * torch.randn(
        6 * group, 10, generator=draw
    )
    library = losses.GISTEmbedLoss(
        Given(tokenizer, columns(queries, passages)),
        Given(tokenizer, columns(guide_queries, guide_passages)),
        temperature=TEMPERATURE,
        margin_strategy=strategy,
        margin=0.1,
        contrast_anchors=anchors,
        contrast_positives=positives,
    )
    theirs = library([{} for _ in range(1 + group)], None)
    ways = ("query_to_doc", *["query_to_query"] * anchors, *["doc_to_doc"] * positives)
    settings = Loss(
        temperature=TEMPERATURE, directions=ways, guide=GuideMask(margin=0.1, margin_strategy=strategy)
    )
    guide = F.normalize(guide_queries, dim=-1), F.normalize(guide_passages, dim=-1)
    ours = contrastive_loss(queries, passages, settings, Labels(guide=guide))
    assert 0 < ours.masked < len(passages) - 1
    assert_equal(ours.loss, theirs, queries, passages)


@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (0.05, 2.0)])
def test_distillation_by_divergence_is_the_librarys(temperatures):
    queries, passages = vectors(4)
    scores = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    student, teacher = temperatures
    library = losses.DistillKLDivLoss(
        None, pairwise_cos_sim, student_temperature=student, teacher_temperature=teacher
    )
    theirs = library.compute_loss_from_embeddings(columns(queries, passages), scores)
    how = Distillation(loss="kl_div", student_temperature=student, teacher_temperature=teacher)
    ours = contrastive_loss(queries, passages, Loss(distillation=how), Labels(scores=scores)).loss
    assert_equal(ours, theirs, queries, passages)


@pytest.mark.parametrize("group", [2, 4])
def test_distillation_of_margins_is_the_librarys(group):
    queries, passages = vectors(group)
    scores = torch.rand(6, group, generator=torch.Generator().manual_seed(1))
    library = losses.MarginMSELoss(None, pairwise_cos_sim)
    theirs = library.compute_loss_from_embeddings(columns(queries, passages), scores)
    how = Distillation(loss="margin_mse")
    ours = contrastive_loss(queries, passages, Loss(distillation=how), Labels(scores=scores)).loss
    assert_equal(ours, theirs, queries, passages)
