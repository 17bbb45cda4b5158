"""Batches of a training as rows of tokens: each process reads and tokenises its own part alone."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from realign.artifacts.command import UserError
from realign.embedder.tokens import prompt_length, tokenize
from realign.engine.distributed import World
from realign.study.loss import Loss
from realign.study.recipe import Train
from realign.text.pairs import PairRow, text_key
from realign.training.batches import Drawn, Sampling, Schedule, draw, hold_out, shares_of
from realign.training.guide import Guide
from realign.training.index import PairFile, Source, instructions_of
from realign.training.loss import Labels
from realign.training.step import LocalBatch
from realign.training.uses import loss_of, uses_guide, uses_scores


class TrainingData:
    """The samples of a training: which there are, in what order they come, and their tokens."""

    def __init__(
        self, sources: Sequence[Source], order: Train, seed: int, tokenizer: Any, guide: Guide | None = None
    ):
        self.settings, self.recipe, self.seed, self.tokenizer = order, order.recipe, seed, tokenizer
        self.guide = guide
        recipe, batches = order.recipe, order.recipe.batches
        self.files = [self._open(source) for source in sources]
        held = hold_out([len(f) for f in self.files], recipe.validation.samples, seed)
        self.held_out = [(f, int(i)) for f, rows in zip(self.files, held, strict=True) for i in rows]
        self._rows = [np.setdiff1d(np.arange(len(f)), rows) for f, rows in zip(self.files, held, strict=True)]
        self._starts = np.cumsum([0, *(len(rows) for rows in self._rows)])
        self._losses = [loss_of(recipe, file.name) for file in self.files]
        self._weighted = any(file.weighted for file in self.files)
        sizes = [len(rows) for rows in self._rows]
        self.schedule = Schedule(
            sizes, batches.size, seed, batches.epochs, batches.steps, self._sampling(sizes)
        )
        if not len(self.schedule.plan(0)):
            raise UserError(
                f"the training data ({self._starts[-1]} usable samples) does not fill one batch of "
                f"{batches.size}; set batches.size lower or give more data"
            )

    def _sampling(self, sizes: Sequence[int]) -> Sampling:
        """How the datasets share the batches; those of unlike losses are never mixed."""
        batches, names = self.recipe.batches, [file.name for file in self.files]
        weights = [batches.weights.get(name, 1.0) for name in names]
        shares = shares_of(sizes, weights, batches.sampling_temperature)
        if shares is not None:
            for name, size in zip(names, sizes, strict=True):
                if size < batches.size:
                    raise UserError(
                        f"{name} has {size} usable samples, which fill no batch of {batches.size}, and no "
                        f"batch is mixed where datasets have weights; set batches.weights.{name} to 0 or "
                        "batches.size lower"
                    )
        kinds = tuple(self._losses.index(loss) for loss in self._losses)
        return Sampling(batches.mixed_leftovers, kinds, shares)

    def _open(self, source: Source) -> PairFile:
        batches, recipe = self.recipe.batches, self.recipe
        losses = [loss_of(recipe, source.name), *([recipe.loss] if recipe.validation.samples else [])]
        prompts = {text: prompt_length(self.tokenizer, text) for text in instructions_of(source.index)}
        return PairFile.open(
            source.name,
            source.path,
            source.index,
            batches.negatives,
            prompts,
            self.settings.query_tokens,
            self.settings.query_tokens * batches.characters_per_token,
            any(map(uses_scores, losses)),
        )

    def order(self) -> str:
        """A hash of which samples come in which order; equal for the two sides of a pair."""
        digest = hashlib.sha256(self.schedule.fingerprint().encode())
        for file, rows in zip(self.files, self._rows, strict=True):
            digest.update(f"{file.name}\0".encode())
            digest.update(file.rows[rows].tobytes())
        return digest.hexdigest()[:12]

    def counts(self) -> dict[str, Any]:
        """What became of the samples of each dataset, and how the batches are made up."""
        plan = self.schedule.plan(0)
        batches = [int((plan.datasets == number).sum()) for number in range(len(self.files))]
        return {
            "datasets": {
                f.name: {"usable": len(f), "refused": dict(f.refused), "batches": count}
                for f, count in zip(self.files, batches, strict=True)
            },
            "held_out": len(self.held_out),
            "batches": {"pure": plan.pure, "mixed": plan.mixed, "dropped_samples": plan.dropped},
            "steps": self.schedule.steps,
        }

    def instructions(self) -> Mapping[str, str]:
        """The first instruction of each dataset, for the exported model's prompts."""
        return {f.name: f[0].instruction for f in self.files if f[0].instruction}

    def _owner(self, sample: int) -> int:
        """The dataset of a training sample."""
        return int(np.searchsorted(self._starts, sample, side="right")) - 1

    def row(self, sample: int) -> PairRow:
        """One training sample, by its number over all datasets."""
        owner = self._owner(sample)
        return self.files[owner][int(self._rows[owner][sample - self._starts[owner]])]

    def batch(self, step: int, world: World) -> tuple[LocalBatch, int]:
        """Our part of a step's batch, and a number that tells whether all processes have the same batch."""
        epoch, samples = self.schedule.samples(step)
        drawn = [
            draw(self.row(int(s)), self.recipe.batches.negatives, self.seed, epoch, int(s))
            for s in samples[world.share(len(samples))]
        ]
        loss = self._losses[self._owner(int(samples[0]))]  # the same for all samples, mixed or not
        return self._local(drawn, len(samples), world, loss), zlib.crc32(
            np.ascontiguousarray(samples).tobytes()
        )

    def validation(self, world: World) -> tuple[LocalBatch, list[PairRow], list[Drawn]]:
        """Our part of the held-out set as one batch, and all its rows with what is drawn of them."""
        rows = [file[i] for file, i in self.held_out]
        drawn = [
            draw(row, self.recipe.batches.negatives, self.seed, -1, number) for number, row in enumerate(rows)
        ]
        return self._local(drawn[world.share(len(drawn))], len(drawn), world, self.recipe.loss), rows, drawn

    def _local(self, drawn: Sequence[Drawn], size: int, world: World, loss: Loss) -> LocalBatch:
        characters = self.recipe.batches.characters_per_token
        query_tokens, passage_tokens = self.settings.query_tokens, self.settings.passage_tokens
        whole = [text for d in drawn for text in d.passages]
        queries = [d.query[: query_tokens * characters] for d in drawn]
        passages = [text[: passage_tokens * characters] for text in whole]
        group = 1 + self.recipe.batches.negatives
        labels = Labels(
            torch.tensor([text_number(text) for text in whole], dtype=torch.int64),
            torch.tensor([d.weight for d in drawn]) if self._weighted else None,
            torch.tensor([d.scores for d in drawn]).view(len(drawn), group) if uses_scores(loss) else None,
            self.guide.vectors(queries, passages) if self.guide and uses_guide(loss) else None,
        )
        return LocalBatch.of(
            tokenize(self.tokenizer, queries, [d.instruction for d in drawn], query_tokens),
            tokenize(self.tokenizer, passages, None, passage_tokens),
            labels,
            size,
            group,
            world,
            loss,
        )


def text_number(text: str) -> int:
    """A number for a text, up to case and white space."""
    return int.from_bytes(text_key(text)[:8], "big", signed=True)
