"""The gradient of a whole global batch, however little of it fits into memory at once.

This is the gradient cache (Gao et al., 2021), read top-down in `ContrastiveStep.__call__`: vectors of all
texts without a graph; the loss and its gradient on the vectors of all processes; then a second forward
pass, chunk by chunk, whose backward pass starts from those gradients. The first pass keeps the graphs of
as many chunks as a second budget allows, and of one at least, since memory has room for one anyway: these
chunks go through the model once. The parameters receive the gradient of the whole batch, not an
approximation. Chunks are filled by a budget of tokens over queries and passages together, sorted by
length, so almost nothing is padding.

In comments, R is the number of this process's texts, Q and P those of the global batch's queries and
passages, and D a vector's width.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from realign.embedder.model import Embedder
from realign.embedder.tokens import Batch, Pack, Rows, by_token_budget
from realign.engine.deepspeed_setup import accumulate_in_fp32, forget_backward
from realign.engine.distributed import World, shares
from realign.study.loss import Loss
from realign.training.chunks import plan_chunks
from realign.training.loss import Labels, contrastive_loss


@dataclass(frozen=True)
class LocalBatch:
    """This process's part of a global batch: its queries' rows first, then their passages'."""

    rows: Rows
    queries: int
    counts: tuple[int, ...]  # queries of each process
    group: int  # passages of each query, its positive first
    labels: Labels  # those of our queries and passages
    loss: Loss | None = None  # the loss of the batch's dataset, where it has one of its own

    @classmethod
    def of(
        cls,
        queries: Rows,
        passages: Rows,
        labels: Labels,
        size: int,
        group: int,
        world: World,
        loss: Loss | None = None,
    ) -> "LocalBatch":
        """The part that `world` says is ours of a batch of `size` queries."""
        counts = tuple(part.stop - part.start for part in shares(size, world.size))
        return cls(queries + passages, len(queries), counts, group, labels, loss)


@dataclass(frozen=True)
class StepFacts:
    """What one step's forward passes showed."""

    loss: float
    accuracy: float
    masked: float
    mean_cosine: float  # between different queries of the global batch: near 1 is collapse
    chunks: int
    tokens: int  # of this process, without padding
    padded: int  # of this process, with it


class ContrastiveStep:
    """Puts the gradient of a global batch into a DeepSpeed engine, ready for `engine.step()`."""

    def __init__(
        self,
        engine: Any,
        world: World,
        loss: Loss,
        token_budget: int,
        reduce_once: bool = False,
        gradient_scale: float = 1.0,
        kept_tokens: int = 0,
    ):
        self.engine, self.world, self.loss = engine, world, loss
        self.embedder: Embedder = engine.module
        self.token_budget, self.kept_tokens = token_budget, kept_tokens
        # Stage 1 reduces at the last chunk alone; its optimizer for half precision knows no other way.
        self.reduce_once = reduce_once and engine.zero_optimization_stage() > 1
        if self.reduce_once:
            accumulate_in_fp32(self.embedder)
        self.gradient_scale = gradient_scale

    def __call__(self, batch: LocalBatch) -> StepFacts:
        """Forward and backward of a whole batch; all processes must call it together."""
        rows, world = batch.rows, self.world
        chunks, sizes = self._chunks(rows)
        # Each process keeps as many graphs as the one with the least room: backward passes go in step.
        fitting = sum(tokens <= self.kept_tokens for tokens in itertools.accumulate(sizes))
        count = max(1, -int(world.largest(-fitting)))
        kept, later = chunks[:count], chunks[count:]

        # First pass: the vectors of our rows (R × D), and the graphs of the kept chunks.
        vectors = torch.empty(len(rows), self.embedder.width, device=world.device)
        random_states = self._fill(vectors, rows, later)
        graphs = []
        for chunk in kept:
            graphs.append(self.engine(self._batch(rows, chunk)))
            if chunk:
                vectors[list(chunk)] = graphs[-1].detach()

        # Every process computes the loss L of the global batch, and ∂L/∂v for its own vectors v.
        vectors.requires_grad_()
        queries, passages, labels = self._gathered(batch, vectors)
        scored = contrastive_loss(queries, passages, batch.loss or self.loss, labels)
        scored.loss.backward()
        assert vectors.grad is not None
        # DeepSpeed averages over processes; their parts of this gradient have to be added up.
        gradients = vectors.grad * (world.size * self.gradient_scale)

        # Second pass: ∂L/∂θ = Σ over chunks of (∂v/∂θ)ᵀ ∂L/∂v. Kept graphs are let go one by one.
        reduction = self.engine.coalesce_grad_reduction() if self.reduce_once else contextlib.nullcontext()
        with reduction:
            graphs.reverse()
            for number, chunk in enumerate(kept, 1):
                self._backward(graphs.pop(), gradients, chunk, last=number == len(chunks))
            for number, (chunk, state) in enumerate(zip(later, random_states, strict=True), count + 1):
                _set_random(state)  # dropout must draw what it drew in the first pass
                made = self.engine(self._batch(rows, chunk))
                self._backward(made, gradients, chunk, last=number == len(chunks))
        return StepFacts(
            scored.loss.item(),
            scored.accuracy,
            scored.masked,
            mean_cosine(queries.detach()),
            len(chunks),
            sum(rows.lengths),
            sum(sizes),
        )

    def vectors_of(self, batch: LocalBatch) -> tuple[Tensor, Tensor, Labels]:
        """The vectors of a whole batch without a graph: queries, passages, and what comes with them."""
        vectors = torch.empty(len(batch.rows), self.embedder.width, device=self.world.device)
        self._fill(vectors, batch.rows, self._chunks(batch.rows)[0])
        return self._gathered(batch, vectors)

    def _chunks(self, rows: Rows) -> tuple[list[list[int]], list[int]]:
        """The chunks of our rows and the tokens of each with padding; empty chunks fill up.

        Every forward pass gathers parameters at ZeRO 3, so all processes must make as many as the one
        with the most chunks.
        """
        lengths = rows.lengths
        if self.embedder.packed:
            chunks = list(by_token_budget(lengths, self.token_budget, packed=True))
            sizes = [sum(lengths[i] for i in chunk) for chunk in chunks]
        else:
            chunks = plan_chunks(lengths, self.token_budget)
            sizes = [len(chunk) * max(lengths[i] for i in chunk) for chunk in chunks]
        missing = int(self.world.largest(len(chunks))) - len(chunks)
        return chunks + [[]] * missing, sizes + [0] * missing

    def _batch(self, rows: Rows, chunk: Sequence[int]) -> Batch | Pack:
        """A chunk as tensors; an empty chunk is one token whose vector nobody uses."""
        return self.embedder.batch(rows.take(chunk) if chunk else Rows([[self.embedder.pad_id]], [0]))

    def _backward(self, made: Tensor, gradients: Tensor, chunk: Sequence[int], last: bool) -> None:
        """Add a chunk's part to the parameters' gradients; an empty chunk adds zero.

        The gradient of Σ v·g with g = ∂L/∂v held fixed is (∂v/∂θ)ᵀ g, the chain rule's next factor.
        """
        wanted = gradients[list(chunk)] if chunk else torch.zeros_like(made)
        if not self.reduce_once:
            self.engine.set_gradient_accumulation_boundary(last)
        forget_backward(self.engine)
        self.engine.backward((made * wanted).sum())

    @torch.no_grad()
    def _fill(self, vectors: Tensor, rows: Rows, chunks: Sequence[Sequence[int]]) -> list[Any]:
        """Put in the chunks' vectors, without a graph; gives the random state before each chunk."""
        states = []
        for chunk in chunks:
            states.append(_get_random(self.world.device))
            made = self.engine(self._batch(rows, chunk))
            if chunk:
                vectors[list(chunk)] = made
        return states

    def _gathered(self, batch: LocalBatch, own: Tensor) -> tuple[Tensor, Tensor, Labels]:
        """The vectors of all processes, queries (Q × D) and passages (P × D), and the whole batch's labels.

        A collective returns vectors without a graph. Ours are put in at their place, with their graph, so
        `backward` reaches them alone: the other processes do the same for theirs.
        """
        counts = batch.counts
        groups = [n * batch.group for n in counts]
        queries, passages = own[: batch.queries], own[batch.queries :]
        labels = self._gathered_labels(batch, counts, groups)
        if self.world.size == 1:
            return queries, passages, labels
        spliced = []
        for ours, rows in ((queries, counts), (passages, groups)):
            everyone = self.world.gather_rows(ours.detach(), rows)
            start = sum(rows[: self.world.rank])
            spliced.append(torch.cat([everyone[:start], ours, everyone[start + len(ours) :]]))
        return spliced[0], spliced[1], labels

    def _gathered_labels(self, batch: LocalBatch, counts: Sequence[int], groups: Sequence[int]) -> Labels:
        """The labels of all processes that the loss asks for; all processes have labels of the same kinds."""
        ours, loss = batch.labels, batch.loss or self.loss

        def whole(part: Tensor, rows: Sequence[int]) -> Tensor:
            return self.world.gather_rows(part.to(self.world.device), rows)

        return Labels(
            None if ours.texts is None or not loss.mask_same_text else whole(ours.texts, groups),
            None if ours.weights is None else whole(ours.weights, counts),
            None if ours.scores is None else whole(ours.scores, counts),
            None if ours.guide is None else (whole(ours.guide[0], counts), whole(ours.guide[1], groups)),
        )


@torch.no_grad()
def mean_cosine(vectors: Tensor) -> float:
    """The mean cosine between different ones of these unit vectors."""
    unit = torch.nn.functional.normalize(vectors.double(), dim=-1)
    count = len(unit)
    if count < 2:
        return 0.0
    # ‖Σ v‖² = Σ v·v + Σ_{i≠j} vᵢ·vⱼ, and each v·v is 1: no matrix of all pairs is needed.
    return float((unit.sum(dim=0).square().sum() - count) / (count * (count - 1)))


def _get_random(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if device.type == "cuda" else None


def _set_random(state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])


@contextlib.contextmanager
def evaluating(engine: Any) -> Iterator[None]:
    """Without gradients and without dropout, for as long as the block lasts."""
    engine.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        engine.train()
