"""Which samples make which batch, and what is drawn of each sample: all from seeds, none from chance.

A batch holds samples of one dataset, so that its negatives are of one kind; what is left of the
datasets is mixed into further batches, as far as their losses are the same. A sample comes at most once an
epoch; what fills no batch at the end is dropped and counted. Where datasets have shares of their own, an
epoch has as many batches, all of one dataset: some samples come several times, others not at all. The
order depends on the seeds and on the sizes of the datasets, not on the backbone, so that the two sides of
a pair see the same batches.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from realign.seeds import derive_seed
from realign.text.pairs import PairRow

MIXED = -1


@dataclass(frozen=True)
class Plan:
    """The batches of one epoch, in their order: sample numbers counted over all datasets."""

    samples: np.ndarray  # (batches, size)
    datasets: np.ndarray  # the dataset of each batch, or MIXED
    dropped: int  # samples that come in none of them

    @property
    def pure(self) -> int:
        """How many batches hold one dataset alone."""
        return int((self.datasets != MIXED).sum())

    @property
    def mixed(self) -> int:
        """How many batches hold what was left of several datasets."""
        return int((self.datasets == MIXED).sum())

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Sampling:
    """How datasets share the batches of an epoch."""

    mix: bool = True  # fill batches from what is left of several datasets
    kinds: tuple[int, ...] | None = None  # only datasets of one kind are mixed; nothing means all are
    shares: tuple[float, ...] | None = None  # of each dataset; nothing means every sample comes once


def shares_of(sizes: Sequence[int], weights: Sequence[float], temperature: float) -> tuple[float, ...] | None:
    """Each dataset's share of the batches, weight·size^(1/temperature); nothing where that is its size."""
    if temperature == 1 and all(weight == 1 for weight in weights):
        return None
    weight, size = np.array(weights, np.float64), np.array(sizes, np.float64)
    # size^(1/T) is size · size^(1/T - 1); that power is taken less the largest, so that none overflows.
    powers = np.where(weight > 0, np.log(np.maximum(size, 1)) * (1 / temperature - 1), -np.inf)
    shares = weight * size * np.exp(powers - powers.max())
    return tuple((shares / shares.sum()).tolist())


def plan_epoch(
    sizes: Sequence[int], batch: int, seed: int, epoch: int = 0, sampling: Sampling = Sampling()
) -> Plan:
    """The batches of an epoch over datasets of these sizes."""
    if sampling.shares is not None:
        return _plan_shares(sizes, batch, seed, epoch, sampling.shares)
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "batches", epoch)))
    rows: list[np.ndarray] = []
    owners: list[int] = []
    left: list[np.ndarray] = []
    start = 0
    for number, size in enumerate(sizes):
        shuffled = random.permutation(size).astype(np.int64) + start
        start += size
        whole = size // batch
        rows += list(shuffled[: whole * batch].reshape(whole, batch))
        owners += [number] * whole
        left.append(shuffled[whole * batch :])
    kinds = sampling.kinds or (0,) * len(sizes)
    dropped = 0
    for kind in dict.fromkeys(kinds):
        alike = [part for part, other in zip(left, kinds, strict=True) if other == kind]
        rest = random.permutation(np.concatenate(alike))
        whole = len(rest) // batch if sampling.mix else 0
        rows += list(rest[: whole * batch].reshape(whole, batch))
        owners += [MIXED] * whole
        dropped += len(rest) - whole * batch
    order = random.permutation(len(rows))
    samples = np.stack(rows)[order] if rows else np.empty((0, batch), np.int64)
    return Plan(samples, np.array(owners, np.int64)[order], dropped)


def _plan_shares(sizes: Sequence[int], batch: int, seed: int, epoch: int, shares: Sequence[float]) -> Plan:
    """As many batches as the samples would fill, divided by shares; a dataset that ends is shuffled anew."""
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "batches", epoch)))
    counts = divided(sum(sizes) // batch, shares)
    rows: list[np.ndarray] = []
    start = 0
    for size, count in zip(sizes, counts, strict=True):
        whole = size // batch  # a pass ends with its last whole batch, so no batch holds a sample twice
        for first in range(0, count, max(1, whole)):
            shuffled = random.permutation(size).astype(np.int64) + start
            rows += list(shuffled[: whole * batch].reshape(whole, batch)[: count - first])
        start += size
    owners = np.repeat(np.arange(len(sizes)), counts)
    order = random.permutation(len(rows))
    samples = np.stack(rows)[order] if rows else np.empty((0, batch), np.int64)
    return Plan(samples, owners[order], sum(sizes) - len(np.unique(samples)))


def divided(total: int, shares: Sequence[float]) -> list[int]:
    """A number divided by shares into whole numbers: rounded down, then up where most is missing."""
    exact = total * np.array(shares)
    counts = np.floor(exact).astype(np.int64)
    missing = np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]
    counts[missing] += 1
    return counts.tolist()


class Schedule:
    """All batches of a training, epoch after epoch, each planned when it is reached."""

    def __init__(
        self,
        sizes: Sequence[int],
        batch: int,
        seed: int,
        epochs: int = 1,
        steps: int | None = None,
        sampling: Sampling = Sampling(),
    ):
        self.sizes, self.batch, self.seed, self.sampling = tuple(sizes), batch, seed, sampling
        self._plans: dict[int, Plan] = {}
        self.per_epoch = len(self.plan(0))
        self.steps = self.per_epoch * epochs if steps is None else steps
        self.epochs = -(-self.steps // self.per_epoch) if self.per_epoch else 0

    def plan(self, epoch: int) -> Plan:
        """The batches of one epoch; the last one asked for is kept."""
        plans = self._plans  # another thread may replace it meanwhile
        if epoch not in plans:
            plans = {epoch: plan_epoch(self.sizes, self.batch, self.seed, epoch, self.sampling)}
            self._plans = plans
        return plans[epoch]

    def samples(self, step: int) -> tuple[int, np.ndarray]:
        """The epoch of a step and the samples of its batch."""
        epoch, position = divmod(step, self.per_epoch)
        return epoch, self.plan(epoch).samples[position]

    def fingerprint(self) -> str:
        """A hash of every batch up to the last step: equal order, equal hash."""
        digest = hashlib.sha256()
        for epoch in range(self.epochs):
            used = min(self.per_epoch, self.steps - epoch * self.per_epoch)
            digest.update(np.ascontiguousarray(self.plan(epoch).samples[:used]).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Drawn:
    """What a batch takes of one sample: the query, one positive, and the negatives."""

    instruction: str
    query: str
    passages: tuple[str, ...]  # the positive first
    scores: tuple[float, ...] = ()  # a teacher's, of each passage, or none
    weight: float = 1.0


def draw(row: PairRow, negatives: int, seed: int, epoch: int, sample: int) -> Drawn:
    """One positive and so many negatives of a row; negatives repeat only where there are too few."""
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "draw", epoch, sample)))
    positive = int(random.integers(len(row.positives)))
    chosen: list[int] = []
    while len(chosen) < negatives:
        order = random.permutation(len(row.negatives))
        chosen += order[: negatives - len(chosen)].tolist()
    passages = (row.positives[positive], *(row.negatives[place] for place in chosen))
    scores: tuple[float, ...] = ()
    if row.positive_scores:
        scores = (row.positive_scores[positive], *(row.negative_scores[place] for place in chosen))
    return Drawn(row.instruction, row.query, passages, scores, row.weight)


def hold_out(sizes: Sequence[int], samples: int, seed: int) -> list[np.ndarray]:
    """Which rows of each dataset are kept from training to score it; shared evenly, as far as they go."""
    chosen = []
    for number, size in enumerate(sizes):
        share = samples // len(sizes) + (number < samples % len(sizes))
        random = np.random.Generator(np.random.PCG64(derive_seed(seed, "hold out", number)))
        chosen.append(np.sort(random.permutation(size)[: min(share, size // 2)]))
    return chosen
