"""Texts as rows of token ids, and rows as batches that are almost free of padding.

An instruction's length is the number of tokens it has alone, whatever the tokenizer does at the
border to the text: exactly what sentence-transformers counts, so that an exported embedder pools
the same tokens. Batches are filled by a budget of tokens over rows sorted by length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Rows:
    """Tokenized texts: their ids, and how many leading tokens of each are its instruction."""

    ids: list[list[int]]
    prompt_lengths: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Each text's number of tokens."""
        return [len(row) for row in self.ids]

    def take(self, indices: Sequence[int]) -> "Rows":
        """Some of the rows, in the order asked for."""
        return Rows([self.ids[i] for i in indices], [self.prompt_lengths[i] for i in indices])

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(self.ids + other.ids, self.prompt_lengths + other.prompt_lengths)


@dataclass(frozen=True)
class Padded:
    """Rows as tensors, padded on the right to the longest."""

    input_ids: Tensor
    attention_mask: Tensor
    prompt_lengths: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> "Padded":
        """The same batch on a device."""
        return Padded(
            self.input_ids.to(device, non_blocking=True),
            self.attention_mask.to(device, non_blocking=True),
            self.prompt_lengths.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class Pack:
    """Rows as tensors, one after the other in a single row, without padding."""

    input_ids: Tensor  # (1, tokens)
    position_ids: Tensor  # (1, tokens), from 0 in each text
    bounds: Tensor  # where texts begin and end, one more than there are texts
    longest: int
    prompt_lengths: Tensor

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    def to(self, device: torch.device | str) -> "Pack":
        """The same texts on a device."""
        return Pack(
            self.input_ids.to(device, non_blocking=True),
            self.position_ids.to(device, non_blocking=True),
            self.bounds.to(device, non_blocking=True),
            self.longest,
            self.prompt_lengths.to(device, non_blocking=True),
        )

    def inputs(self) -> dict[str, Any]:
        """What the model is called with."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "cu_seq_lens_q": self.bounds,
            "cu_seq_lens_k": self.bounds,
            "max_length_q": self.longest,
            "max_length_k": self.longest,
        }


Batch = Padded | Pack


def tokenize(
    tokenizer: Any,
    texts: Sequence[str],
    instructions: Sequence[str] | str | None = None,
    max_length: int = 512,
) -> Rows:
    """The texts' rows, each behind its instruction: none, one for all, or one for each text."""
    if instructions is None or isinstance(instructions, str):
        instructions = [instructions or ""] * len(texts)
    if len(instructions) != len(texts):
        raise ValueError(f"{len(texts)} texts came with {len(instructions)} instructions")
    if not texts:
        return Rows([], [])
    alone = {prompt: prompt_length(tokenizer, prompt) for prompt in set(instructions)}
    whole = [prompt + text for prompt, text in zip(instructions, texts, strict=True)]
    ids = tokenizer(whole, truncation=True, max_length=max_length, padding=False)["input_ids"]
    prompts = [min(alone[prompt], len(row)) for prompt, row in zip(instructions, ids, strict=True)]
    return Rows(ids, prompts)


def prompt_length(tokenizer: Any, prompt: str) -> int:
    """The tokens of an instruction alone, without a special token that ends it."""
    if not prompt:
        return 0
    ids = tokenizer(prompt)["input_ids"]
    return len(ids) - (1 if ids and ids[-1] in tokenizer.all_special_ids else 0)


def collate(rows: Rows, pad_id: int) -> Padded:
    """Rows as one batch; an empty row becomes a single token that is all padding."""
    width = max([1, *rows.lengths])
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    attention_mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows.ids):
        input_ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        attention_mask[i, : len(row)] = 1
    return Padded(input_ids, attention_mask, torch.tensor(rows.prompt_lengths, dtype=torch.long))


def pack(rows: Rows) -> Pack:
    """Rows as one pack; there must be a token in it."""
    lengths = torch.tensor(rows.lengths, dtype=torch.int32)
    if not int(lengths.sum()):
        raise ValueError("a pack holds at least one token")
    return Pack(
        torch.tensor([[token for row in rows.ids for token in row]], dtype=torch.long),
        torch.cat([torch.arange(n, dtype=torch.long) for n in rows.lengths]).unsqueeze(0),
        functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0)),
        int(lengths.max()),
        torch.tensor(rows.prompt_lengths, dtype=torch.long),
    )


def by_token_budget(lengths: Sequence[int], budget: int, packed: bool = False) -> Iterator[list[int]]:
    """Indices of rows in batches, longest first, within a budget of tokens.

    Padded batches count rows × longest row, packed ones the sum of the rows. A row longer than the
    budget is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    used = 0
    for i in order:
        size = max(1, lengths[i])
        if batch and (used + size if packed else (len(batch) + 1) * max(1, lengths[batch[0]])) > budget:
            yield batch
            batch, used = [], 0
        batch.append(i)
        used += size
    if batch:
        yield batch
