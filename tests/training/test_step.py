"""The gradient cache: exact with every option of the loss, and a chunk's second pass draws what its first drew."""

import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from gradient_cases import OPTIONS, labels_of
from realign.embedder.model import Embedder
from realign.embedder.tokens import Rows
from realign.engine.distributed import World
from realign.study.embedder import EmbedderSettings
from realign.study.loss import Loss
from realign.training.loss import Labels, contrastive_loss
from realign.training.step import ContrastiveStep, LocalBatch

BUDGET = 40
ALONE = World(0, 1, 0, torch.device("cpu"))


class PlainEngine:
    """What a step asks of DeepSpeed, by plain autograd."""

    optimizer = None

    def __init__(self, module, stage=0):
        self.module, self.stage = module, stage

    def __call__(self, *given):
        return self.module(*given)

    def zero_optimization_stage(self):
        return self.stage

    def set_gradient_accumulation_boundary(self, last):
        """Nothing is reduced here."""

    def backward(self, loss):
        loss.backward()


@pytest.fixture
def with_dropout(tiny_backbone, tmp_path):
    place = shutil.copytree(tiny_backbone, tmp_path / "dropout")
    config = AutoConfig.from_pretrained(place)
    config.attention_dropout = 0.3
    config.save_pretrained(place)
    return Embedder.load(place, EmbedderSettings(max_length=64), device="cpu", check=False).train()


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    texts = [torch.randint(2, 250, (n,), generator=draw).tolist() for n in (5, 9, 14, 30, 7, 12, 18, 25)]
    queries, passages = Rows(texts[:4], [1] * 4), Rows(texts[4:], [0] * 4)
    return LocalBatch.of(queries, passages, Labels(torch.arange(4)), 4, 1, ALONE)


def gradients(embedder):
    found = {name: p.grad.clone() for name, p in embedder.named_parameters()}
    embedder.zero_grad()
    return found


def test_dropout_is_the_same_in_both_passes_of_a_chunk(with_dropout, batch):
    step = ContrastiveStep(PlainEngine(with_dropout), ALONE, Loss(temperature=0.05), BUDGET)
    torch.manual_seed(7)
    facts = step(batch)
    cached = gradients(with_dropout)
    assert facts.chunks > 2

    # the same chunks in the order in which the step first meets them, all graphs held at once
    torch.manual_seed(7)
    first, *later = step._chunks(batch.rows)[0]
    made = {tuple(chunk): with_dropout(step._batch(batch.rows, chunk)) for chunk in [*later, first]}
    vectors = torch.stack([v for _, v in sorted((i, v) for c, vs in made.items() for i, v in zip(c, vs))])  # noqa: B905
    loss = contrastive_loss(vectors[:4], vectors[4:], Loss(temperature=0.05), batch.labels).loss
    loss.backward()
    held = gradients(with_dropout)
    assert facts.loss == pytest.approx(loss.item(), rel=1e-6)
    for name, expected in held.items():
        assert (cached[name] - expected).norm() <= 1e-5 * expected.norm(), name

    # and dropout did decide: without the random state the gradient would be another one
    torch.manual_seed(8)
    step(batch)
    other = gradients(with_dropout)
    assert any((other[n] - g).norm() > 1e-2 * g.norm() for n, g in held.items())


@pytest.fixture(scope="module")
def without_dropout(tiny_backbone):
    return Embedder.load(tiny_backbone, EmbedderSettings(max_length=64), device="cpu", check=False).train()


@pytest.mark.parametrize("option", OPTIONS)
def test_the_cached_gradient_of_each_option_is_that_of_one_plain_pass(without_dropout, option):
    draw = torch.Generator().manual_seed(2)
    texts = [
        torch.randint(2, 250, (n,), generator=draw).tolist() for n in (5, 9, 14, 30, 7, 12, 18, 25, 6) * 2
    ]
    batch = LocalBatch.of(Rows(texts[:6], [1] * 6), Rows(texts[6:], [0] * 12), labels_of(6, 2), 6, 2, ALONE)
    settings = Loss(**OPTIONS[option])
    facts = ContrastiveStep(PlainEngine(without_dropout), ALONE, settings, BUDGET)(batch)
    cached = gradients(without_dropout)
    assert facts.chunks > 2

    vectors = without_dropout(without_dropout.batch(batch.rows))
    loss = contrastive_loss(vectors[:6], vectors[6:], settings, batch.labels).loss
    loss.backward()
    plain = gradients(without_dropout)
    assert facts.loss == pytest.approx(loss.item(), rel=1e-5)
    for name, expected in plain.items():
        assert expected.norm() > 0
        assert (cached[name] - expected).norm() <= 1e-5 * expected.norm(), name

    # a batch's own loss goes before the training's
    own = ContrastiveStep(PlainEngine(without_dropout), ALONE, Loss(temperature=9.0), BUDGET)
    assert own(replace(batch, loss=settings)).loss == facts.loss
    without_dropout.zero_grad()


@pytest.mark.parametrize(("kept_tokens", "spared"), [(0, 1), (100, 3), (10**6, None)])
def test_chunks_whose_graphs_are_kept_go_through_the_model_once(with_dropout, batch, kept_tokens, spared):
    passes = []
    engine = PlainEngine(with_dropout)
    with_dropout.register_forward_hook(lambda *_: passes.append(1))
    step = ContrastiveStep(engine, ALONE, Loss(temperature=0.05), BUDGET, kept_tokens=kept_tokens)
    chunks = step(batch).chunks
    assert chunks > 2
    assert len(passes) == 2 * chunks - (spared or chunks)


@pytest.mark.parametrize(("stage", "once"), [(0, False), (1, False), (2, True), (3, True)])
def test_gradients_are_reduced_once_where_stages_would_reduce_more_often(with_dropout, stage, once):
    """Stage 1 reduces once anyway, and its optimizer for half precision refuses to be asked."""
    step = ContrastiveStep(PlainEngine(with_dropout, stage), ALONE, Loss(), BUDGET, reduce_once=True)
    assert step.reduce_once is once
