"""Documents packed into blocks of one length, none seeing another.

A document is a list of tokens of which a first part may go without loss (a prompt). Positions start
again with each document, by which transformers keeps attention within it. Which blocks a step trains
on follows from the seed and the step's number alone, so that a resumed run sees what the first would
have seen.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from realign.artifacts.command import UserError
from realign.backbones.prompts import prompt_tokens
from realign.seeds import derive_seed
from realign.study.backbones import Prompt
from realign.text.problems import Problem

IGNORED = -100  # the label that torch's cross-entropy leaves out
OPEN_BLOCKS = 64  # how many blocks wait for a document that still fits


@dataclass(frozen=True)
class Document:
    """Tokens, the first `silent` of which are read but not learned."""

    tokens: tuple[int, ...]
    silent: int = 0


@dataclass(frozen=True)
class Blocks:
    """Packed documents: tokens, positions within their document, and what is to be predicted."""

    tokens: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: Sequence[int]) -> "Blocks":
        """Some of the blocks, in the order asked for."""
        index = torch.as_tensor(rows)
        return Blocks(self.tokens[index], self.positions[index], self.labels[index])

    def to(self, device: torch.device) -> "Blocks":
        """The same blocks on a device."""
        return Blocks(self.tokens.to(device), self.positions.to(device), self.labels.to(device))

    @property
    def targets(self) -> int:
        """How many tokens are to be predicted."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    @staticmethod
    def join(parts: Sequence["Blocks"]) -> "Blocks":
        """Several sets of blocks of one length as one."""
        return Blocks(
            torch.cat([p.tokens for p in parts]),
            torch.cat([p.positions for p in parts]),
            torch.cat([p.labels for p in parts]),
        )


def text_documents(texts: Iterable[str], tokenizer: Any, length: int) -> Iterator[Document]:
    """Texts as documents that end in the end-of-text token; long ones in pieces of `length`."""
    for ids in _encoded(texts, tokenizer):
        whole = [*ids, tokenizer.eos_token_id]
        for start in range(0, len(whole), length):
            if len(piece := whole[start : start + length]) > 1:
                yield Document(tuple(piece))


def problem_documents(
    problems: Sequence[Problem], tokenizer: Any, length: int, prompt: Prompt, silent_prompt: bool
) -> Iterator[Document]:
    """Problems with their traces; those longer than `length` are left out.

    Prompt and trace are tokenized apart, as they are when an answer is sampled.
    """
    traces = _encoded((p.trace for p in problems), tokenizer)
    for before, trace in zip(prompt_tokens(problems, tokenizer, prompt), traces, strict=True):
        tokens = (*before, *trace, tokenizer.eos_token_id)
        if len(tokens) <= length:
            yield Document(tokens, len(before) if silent_prompt else 0)


def _encoded(texts: Iterable[str], tokenizer: Any, batch: int = 1000) -> Iterator[list[int]]:
    waiting: list[str] = []
    for text in texts:
        waiting.append(text)
        if len(waiting) == batch:
            yield from tokenizer(waiting, add_special_tokens=False, verbose=False)["input_ids"]
            waiting.clear()
    if waiting:
        yield from tokenizer(waiting, add_special_tokens=False, verbose=False)["input_ids"]


def pack(documents: Iterable[Document], length: int, padding: int) -> Blocks:
    """Documents in blocks of `length`: each goes to the fullest open block in which it fits."""
    finished: list[list[Document]] = []
    waiting: list[tuple[int, list[Document]]] = []  # room left, documents
    for document in documents:
        size = len(document.tokens)
        fitting = [i for i, (room, _) in enumerate(waiting) if room >= size]
        if fitting:
            best = min(fitting, key=lambda i: waiting[i][0])
            room, inside = waiting[best]
            inside.append(document)
            waiting[best] = (room - size, inside)
            continue
        if len(waiting) == OPEN_BLOCKS:
            fullest = min(range(len(waiting)), key=lambda i: waiting[i][0])
            finished.append(waiting.pop(fullest)[1])
        waiting.append((length - size, [document]))
    finished += [inside for _, inside in waiting]
    return _lay_out(finished, length, padding)


def _lay_out(blocks: Sequence[Sequence[Document]], length: int, padding: int) -> Blocks:
    tokens = np.full((len(blocks), length), padding, np.int64)
    positions = np.zeros((len(blocks), length), np.int64)
    labels = np.full((len(blocks), length), IGNORED, np.int64)
    for row, inside in enumerate(blocks):
        at = 0
        for document in inside:
            size = len(document.tokens)
            span = slice(at, at + size)
            tokens[row, span] = document.tokens
            positions[row, span] = np.arange(size)
            # A document's first token is predicted from nothing that belongs to it.
            learned = slice(at + max(document.silent, 1), at + size)
            labels[row, learned] = tokens[row, learned]
            at += size
        positions[row, at:] = np.arange(length - at)  # padding is one more document, without loss
    return Blocks(torch.from_numpy(tokens), torch.from_numpy(positions), torch.from_numpy(labels))


class Stream:
    """Blocks without end: epoch after epoch, each in an order of its own."""

    def __init__(self, blocks: Blocks, seed: int, *names: object):
        if not len(blocks):
            raise UserError(f"no {' '.join(map(str, names))} is left to train on; is `length` too small?")
        self.blocks, self.seed, self.names = blocks, seed, names
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def _place(self, index: int) -> int:
        epoch, within = divmod(index, len(self.blocks))
        if self._order[0] != epoch:
            generator = np.random.default_rng(derive_seed(self.seed, *self.names, "epoch", epoch))
            self._order = (epoch, generator.permutation(len(self.blocks)))
        return int(self._order[1][within])

    def batch(self, step: int, size: int) -> Blocks:
        """The blocks of one step, `size` at a time from the stream."""
        return self.blocks.take([self._place(i) for i in range(step * size, (step + 1) * size)])
