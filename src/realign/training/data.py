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
from realign.study.recipe import Train
from realign.text.pairs import PairRow, text_key
from realign.training.batches import Drawn, Schedule, draw, hold_out
from realign.training.index import PairFile, Source, instructions_of
from realign.training.step import LocalBatch


class TrainingData:
    """The samples of a training: which there are, in what order they come, and their tokens."""

    def __init__(self, sources: Sequence[Source], order: Train, seed: int, tokenizer: Any):
        self.settings, self.recipe, self.seed, self.tokenizer = order, order.recipe, seed, tokenizer
        recipe, batches = order.recipe, order.recipe.batches
        self.files = [self._open(source) for source in sources]
        held = hold_out([len(f) for f in self.files], recipe.validation.samples, seed)
        self.held_out = [(f, int(i)) for f, rows in zip(self.files, held, strict=True) for i in rows]
        self._rows = [np.setdiff1d(np.arange(len(f)), rows) for f, rows in zip(self.files, held, strict=True)]
        self._starts = np.cumsum([0, *(len(rows) for rows in self._rows)])
        self.schedule = Schedule(
            [len(rows) for rows in self._rows],
            batches.size,
            seed,
            batches.epochs,
            batches.steps,
            batches.mixed_leftovers,
        )
        if not len(self.schedule.plan(0)):
            raise UserError(
                f"the training data ({self._starts[-1]} usable samples) does not fill one batch of "
                f"{batches.size}; set batches.size lower or give more data"
            )

    def _open(self, source: Source) -> PairFile:
        batches = self.recipe.batches
        prompts = {text: prompt_length(self.tokenizer, text) for text in instructions_of(source.index)}
        return PairFile.open(
            source.name,
            source.path,
            source.index,
            batches.negatives,
            prompts,
            self.settings.query_tokens,
            self.settings.query_tokens * batches.characters_per_token,
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
        return {
            "datasets": {f.name: {"usable": len(f), "refused": dict(f.refused)} for f in self.files},
            "held_out": len(self.held_out),
            "batches": {"pure": plan.pure, "mixed": plan.mixed, "dropped_samples": plan.dropped},
            "steps": self.schedule.steps,
        }

    def instructions(self) -> Mapping[str, str]:
        """The first instruction of each dataset, for the exported model's prompts."""
        return {f.name: f[0].instruction for f in self.files if f[0].instruction}

    def row(self, sample: int) -> PairRow:
        """One training sample, by its number over all datasets."""
        owner = int(np.searchsorted(self._starts, sample, side="right")) - 1
        return self.files[owner][int(self._rows[owner][sample - self._starts[owner]])]

    def batch(self, step: int, world: World) -> tuple[LocalBatch, int]:
        """Our part of a step's batch, and a number that tells whether all processes have the same batch."""
        epoch, samples = self.schedule.samples(step)
        drawn = [
            draw(self.row(int(s)), self.recipe.batches.negatives, self.seed, epoch, int(s))
            for s in samples[world.share(len(samples))]
        ]
        return self._local(drawn, len(samples), world), zlib.crc32(np.ascontiguousarray(samples).tobytes())

    def validation(self, world: World) -> tuple[LocalBatch, list[PairRow], list[Drawn]]:
        """Our part of the held-out set as one batch, and all its rows with what is drawn of them."""
        rows = [file[i] for file, i in self.held_out]
        drawn = [
            draw(row, self.recipe.batches.negatives, self.seed, -1, number) for number, row in enumerate(rows)
        ]
        return self._local(drawn[world.share(len(drawn))], len(drawn), world), rows, drawn

    def _local(self, drawn: Sequence[Drawn], size: int, world: World) -> LocalBatch:
        characters = self.recipe.batches.characters_per_token
        query_tokens, passage_tokens = self.settings.query_tokens, self.settings.passage_tokens
        passages = [text for d in drawn for text in d.passages]
        return LocalBatch.of(
            tokenize(
                self.tokenizer,
                [d.query[: query_tokens * characters] for d in drawn],
                [d.instruction for d in drawn],
                query_tokens,
            ),
            tokenize(
                self.tokenizer,
                [text[: passage_tokens * characters] for text in passages],
                None,
                passage_tokens,
            ),
            torch.tensor([text_number(text) for text in passages], dtype=torch.int64),
            size,
            1 + self.recipe.batches.negatives,
            world,
        )


def text_number(text: str) -> int:
    """A number for a text, up to case and white space."""
    return int.from_bytes(text_key(text)[:8], "big", signed=True)
