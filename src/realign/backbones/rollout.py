"""Sampling answers: many side by side, with a KV cache, from random numbers that a seed decides.

Prompts are padded on the left and read once each; their cache is then repeated for every answer of a
group. Rows that have ended leave the batch once half of it is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from realign.engine.distributed import World
from realign.seeds import derive_seed


@dataclass(frozen=True)
class Answer:
    """A sampled completion: its tokens, the end token included when it ended by itself."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class Sampler:
    """How answers are sampled; temperature 0 takes the most likely token each time."""

    ends: tuple[int, ...]
    padding: int
    max_new_tokens: int
    temperature: float = 1.0
    batch: int = 256

    def sample(
        self, model: Any, prompts: Sequence[Sequence[int]], group: int, seed: int, world: World | None = None
    ) -> list[list[Answer]]:
        """A group of answers for each prompt, in the order of the prompts."""
        model.eval()
        at_once = max(1, self.batch // group)
        answers: list[list[Answer]] = []
        with torch.no_grad():
            for start in range(0, len(prompts), at_once):
                part = prompts[start : start + at_once]
                generator = torch.Generator().manual_seed(derive_seed(seed, "answers", start))
                answers += self._side_by_side(model, part, group, generator, world)
        return answers

    def _side_by_side(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        group: int,
        generator: torch.Generator,
        world: World | None,
    ) -> list[list[Answer]]:
        device = next(model.parameters()).device
        ids, mask = pad_left(prompts, self.padding)
        ids, mask = ids.to(device), mask.to(device)
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions_of(mask),
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = out.past_key_values, out.logits[:, -1].repeat_interleave(group, dim=0)
        if group > 1:
            cache.batch_repeat_interleave(group)
            mask = mask.repeat_interleave(group, dim=0)
        rows = torch.arange(len(prompts) * group, device=device)  # whose answer each live row is
        tokens = torch.full((len(rows), self.max_new_tokens), self.padding, device=device)
        lengths = torch.full((len(rows),), self.max_new_tokens, device=device)
        ends = torch.tensor(self.ends, device=device)
        done = torch.zeros(len(rows), dtype=torch.bool, device=device)
        for at in range(self.max_new_tokens):
            chosen = self._choose(logits, generator)
            live = rows[~done]
            tokens[live, at] = chosen[~done]
            ending = ~done & torch.isin(chosen, ends)
            lengths[rows[ending]] = at + 1
            done = done | ending
            if at + 1 == self.max_new_tokens or self._all_done(done, world):
                break
            if 2 * int(done.sum()) >= len(done) and not bool(done.all()):
                keep = torch.nonzero(~done).squeeze(1)
                cache.batch_select_indices(keep)
                rows, chosen, mask, done = rows[keep], chosen[keep], mask[keep], done[keep]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            out = model(
                input_ids=chosen.unsqueeze(1),
                attention_mask=mask,
                position_ids=mask.sum(dim=1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
            )
            logits = out.logits[:, -1]
        return self._collect(prompts, group, tokens.tolist(), lengths.tolist())

    def _choose(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        # By inverse of the distribution function: one number a row, drawn on the CPU on any device.
        heap = torch.softmax(logits.float() / self.temperature, dim=-1).cumsum(dim=-1)
        drawn = torch.rand(len(logits), 1, generator=generator).to(logits.device) * heap[:, -1:]
        return (heap < drawn).sum(dim=-1).clamp(max=logits.shape[-1] - 1)

    def _all_done(self, done: torch.Tensor, world: World | None) -> bool:
        """Whether no process samples any more: under ZeRO-3 every forward pass is a common effort."""
        mine = bool(done.all())
        return mine if world is None or world.size == 1 else not world.any(not mine)

    def _collect(
        self, prompts: Sequence[Sequence[int]], group: int, tokens: list[list[int]], lengths: list[int]
    ) -> list[list[Answer]]:
        answers = []
        for i, (row, length) in enumerate(zip(tokens, lengths, strict=True)):
            kept = tuple(row[:length])
            answers.append(Answer(tuple(prompts[i // group]), kept, kept[-1] in self.ends))
        return [answers[i : i + group] for i in range(0, len(answers), group)]


def pad_left(rows: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens of one length, filled from the left, and the mask of what is real."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), padding)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return ids, mask


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Positions that count real tokens only."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


@dataclass(frozen=True)
class Batch:
    """Answers behind their prompts as one batch of tokens; the last `width` columns are answers."""

    ids: torch.Tensor
    mask: torch.Tensor
    answered: torch.Tensor
    width: int

    @classmethod
    def of(cls, answers: Sequence[Answer], padding: int, device: torch.device) -> "Batch":
        """Prompts padded on the left, answers on the right, meeting at one column."""
        prompts, seen = pad_left([a.prompt for a in answers], padding)
        width = max(len(a.tokens) for a in answers)
        tail = torch.full((len(answers), width), padding)
        real = torch.zeros(len(answers), width, dtype=torch.long)
        for i, answer in enumerate(answers):
            tail[i, : len(answer.tokens)] = torch.tensor(answer.tokens)
            real[i, : len(answer.tokens)] = 1
        ids, mask = torch.cat([prompts, tail], 1), torch.cat([seen, real], 1)
        return cls(ids.to(device), mask.to(device), real.float().to(device), width)

    def inputs(self) -> dict[str, Any]:
        """What a model is called with for the logits that the answers' tokens came from, and one more."""
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask,
            "position_ids": positions_of(self.mask),
            "use_cache": False,
            "logits_to_keep": self.width + 1,
        }

    @property
    def tokens(self) -> torch.Tensor:
        """The answers' tokens."""
        return self.ids[:, -self.width :]
