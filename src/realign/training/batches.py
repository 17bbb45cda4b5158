"""Which samples make which batch, and what is drawn of each sample: all from seeds, none from chance.

A batch holds samples of one dataset, so that its negatives are of one kind; what is left of the
datasets is mixed into further batches. A sample comes at most once an epoch; what fills no batch at
the end is dropped and counted. The order depends on the seeds and on the sizes of the datasets, not
on the backbone, so that the two sides of a pair see the same batches.
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
    dropped: int

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


def plan_epoch(sizes: Sequence[int], batch: int, seed: int, epoch: int = 0, mix: bool = True) -> Plan:
    """The batches of an epoch over datasets of these sizes."""
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
    rest = random.permutation(np.concatenate(left)) if left else np.empty(0, np.int64)
    whole = len(rest) // batch if mix else 0
    rows += list(rest[: whole * batch].reshape(whole, batch))
    owners += [MIXED] * whole
    order = random.permutation(len(rows))
    samples = np.stack(rows)[order] if rows else np.empty((0, batch), np.int64)
    return Plan(samples, np.array(owners, np.int64)[order], len(rest) - whole * batch)


class Schedule:
    """All batches of a training, epoch after epoch, each planned when it is reached."""

    def __init__(
        self,
        sizes: Sequence[int],
        batch: int,
        seed: int,
        epochs: int = 1,
        steps: int | None = None,
        mix: bool = True,
    ):
        self.sizes, self.batch, self.seed, self.mix = tuple(sizes), batch, seed, mix
        self._plans: dict[int, Plan] = {}
        self.per_epoch = len(self.plan(0))
        self.steps = self.per_epoch * epochs if steps is None else steps
        self.epochs = -(-self.steps // self.per_epoch) if self.per_epoch else 0

    def plan(self, epoch: int) -> Plan:
        """The batches of one epoch; the last one asked for is kept."""
        plans = self._plans  # another thread may replace it meanwhile
        if epoch not in plans:
            plans = {epoch: plan_epoch(self.sizes, self.batch, self.seed, epoch, self.mix)}
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


def draw(row: PairRow, negatives: int, seed: int, epoch: int, sample: int) -> Drawn:
    """One positive and so many negatives of a row; negatives repeat only where there are too few."""
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "draw", epoch, sample)))
    positive = row.positives[int(random.integers(len(row.positives)))]
    chosen: list[str] = []
    while len(chosen) < negatives:
        order = random.permutation(len(row.negatives))
        chosen += [row.negatives[int(i)] for i in order[: negatives - len(chosen)]]
    return Drawn(row.instruction, row.query, (positive, *chosen))


def hold_out(sizes: Sequence[int], samples: int, seed: int) -> list[np.ndarray]:
    """Which rows of each dataset are kept from training to score it; shared evenly, as far as they go."""
    chosen = []
    for number, size in enumerate(sizes):
        share = samples // len(sizes) + (number < samples % len(sizes))
        random = np.random.Generator(np.random.PCG64(derive_seed(seed, "hold out", number)))
        chosen.append(np.sort(random.permutation(size)[: min(share, size // 2)]))
    return chosen
