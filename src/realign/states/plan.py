"""What one extraction will read and keep, fixed before the model runs and shared by all processes.

The corpus is tokenized once, tokens are selected, and the texts are cut into shards of whole texts
that are small enough to be lost without regret. The plan lies in the job's scratch folder, so a
continued job and each of its processes work on the same one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realign.artifacts.command import UserError
from realign.artifacts.files import write_whole
from realign.states.selection import select_tokens
from realign.study.states import Extract
from realign.text.streams import LineError, read_objects

SHARD_TOKENS = 1 << 17  # tokens that pass the model for one shard
SHARD_BYTES = 1 << 28  # states that one shard keeps


@dataclass(frozen=True)
class Corpus:
    """The texts of a probe corpus, with their names and, where they have them, their labels."""

    ids: list[str]
    texts: list[str]
    labels: list[str] | None


def read_corpus(path: Path) -> Corpus:
    """A corpus from JSONL lines `{"id", "text", "label"?}`."""
    ids: list[str] = []
    texts: list[str] = []
    labels: list[str] = []
    for number, row in read_objects(path):
        if isinstance(row, LineError):
            raise row
        text = row.get("text")
        if not isinstance(text, str) or not text:
            raise LineError(path, number, "'text' is missing or empty")
        ids.append(str(row.get("id", len(ids))))
        texts.append(text)
        if row.get("label") is not None:
            labels.append(str(row["label"]))
        if labels and len(labels) != len(ids):
            raise LineError(path, number, "some texts of this corpus have a label and others have none")
    if not texts:
        raise UserError(f"{path}: the corpus holds no text")
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise UserError(f"{path}: several texts have the id '{twice}'")
    return Corpus(ids, texts, labels or None)


@dataclass(frozen=True)
class Plan:
    """Token ids of all texts, the positions kept of each, and the bounds of the shards."""

    token_ids: np.ndarray  # of all texts, one after the other
    offsets: np.ndarray  # where each one's characters begin and end, or -1 where the tokenizer does not tell
    text_bounds: np.ndarray  # where each text begins and ends in token_ids
    kept: np.ndarray  # kept positions within their text, text by text
    kept_bounds: np.ndarray  # where each text's kept positions begin and end
    shard_bounds: np.ndarray  # the texts of each shard

    @property
    def texts(self) -> int:
        """The number of texts."""
        return len(self.text_bounds) - 1

    @property
    def rows(self) -> int:
        """The number of tokens kept."""
        return len(self.kept)

    @property
    def shards(self) -> int:
        """The number of shards."""
        return len(self.shard_bounds) - 1

    def ids_of(self, text: int) -> np.ndarray:
        """A text's token ids."""
        return self.token_ids[self.text_bounds[text] : self.text_bounds[text + 1]]

    def kept_of(self, text: int) -> np.ndarray:
        """A text's kept positions."""
        return self.kept[self.kept_bounds[text] : self.kept_bounds[text + 1]]

    def shard(self, index: int) -> range:
        """A shard's texts."""
        return range(int(self.shard_bounds[index]), int(self.shard_bounds[index + 1]))

    def shard_rows(self, index: int) -> slice:
        """A shard's rows among all kept tokens."""
        texts = self.shard(index)
        return slice(int(self.kept_bounds[texts.start]), int(self.kept_bounds[texts.stop]))

    def kept_places(self) -> np.ndarray:
        """Where the kept tokens stand among all tokens."""
        return np.repeat(self.text_bounds[:-1], np.diff(self.kept_bounds)) + self.kept

    def text_index(self) -> np.ndarray:
        """Each kept token's text."""
        return np.repeat(np.arange(self.texts), np.diff(self.kept_bounds))

    def save(self, path: Path) -> None:
        """Write the plan whole."""
        write_whole(path, lambda stream: np.savez(stream, **self.__dict__))

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read a plan again."""
        with np.load(path, allow_pickle=False) as content:
            return cls(**{name: content[name] for name in cls.__dataclass_fields__})


def make_plan(corpus: Corpus, source: Path, tokenizer: Any, settings: Extract, row_bytes: int) -> Plan:
    """Tokenize a corpus, select tokens, and cut it into shards; `row_bytes` is one token, all layers."""
    ids, offsets = _tokenized(corpus, source, tokenizer, settings)
    counts = [len(row) for row in ids]
    kept = select_tokens(counts, settings.tokens, settings.seed, settings.corpus_name)
    cuts = list(_shards(counts, [len(k) * row_bytes for k in kept]))
    return Plan(
        np.concatenate([np.asarray(row, dtype=np.int32) for row in ids]),
        offsets,
        np.r_[0, np.cumsum(counts)].astype(np.int64),
        np.concatenate(kept).astype(np.int32),
        np.r_[0, np.cumsum([len(k) for k in kept])].astype(np.int64),
        np.array(cuts, dtype=np.int64),
    )


def _tokenized(
    corpus: Corpus, source: Path, tokenizer: Any, settings: Extract
) -> tuple[list[list[int]], np.ndarray]:
    """Each text's token ids, and all tokens' first and last characters."""
    tells = bool(getattr(tokenizer, "is_fast", False))
    made = tokenizer(
        corpus.texts,
        add_special_tokens=settings.special_tokens,
        truncation=True,
        max_length=settings.max_tokens,
        padding=False,
        **({"return_offsets_mapping": True} if tells else {}),
    )
    ids = made["input_ids"]
    for name, row in zip(corpus.ids, ids, strict=True):
        if not row:
            raise UserError(f"{source}: the text '{name}' has no token")
    if not tells:
        return ids, np.full((sum(map(len, ids)), 2), -1, dtype=np.int32)
    spans = [_trimmed(text, row) for text, row in zip(corpus.texts, made["offset_mapping"], strict=True)]
    return ids, np.concatenate(spans)


def _trimmed(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Tokens' characters without blanks before them, which some tokenizers count to a word and some not."""
    spans = np.array(offsets, dtype=np.int32)
    places = np.arange(len(text) + 1)
    blank = np.fromiter(map(str.isspace, text), bool, len(text))
    ahead = np.minimum.accumulate(np.where(np.r_[blank, False], len(text), places)[::-1])[::-1]
    spans[:, 0] = np.minimum(ahead[spans[:, 0]], spans[:, 1])
    return spans


def _shards(tokens: Sequence[int], sizes: Sequence[int]) -> Iterator[int]:
    """Where shards begin and end: whole texts, up to a number of tokens and of bytes."""
    yield 0
    passed = kept = 0
    for text, (count, size) in enumerate(zip(tokens, sizes, strict=True)):
        if (passed or kept) and (passed + count > SHARD_TOKENS or kept + size > SHARD_BYTES):
            yield text
            passed = kept = 0
        passed, kept = passed + count, kept + size
    yield len(tokens)
