"""Which token follows each row of a file of states, and which tokens two models' heads both know."""

from pathlib import Path
from typing import Any

import numpy as np

from realign.artifacts.command import UserError
from realign.hrsa.reading import Array, StateFile
from realign.text.streams import read_objects

NONE = -1  # the text ends there


def following(file: StateFile, corpus: Path, tokenizer: Any) -> Array:
    """The id of the token after each row, or -1 after the last one that was read of a text.

    Rows are a sample of a text's tokens, so the text is tokenized again as it was for them.
    """
    texts = [row["text"] for _, row in read_objects(corpus) if isinstance(row, dict)]
    ids = tokenizer(
        texts,
        add_special_tokens=str(file.attributes.get("special_tokens")) == "true",
        truncation=True,
        max_length=int(file.attributes["max_tokens"]),
    )["input_ids"]
    starts = np.r_[0, np.cumsum([len(row) for row in ids])]
    flat = np.concatenate([np.asarray(row, np.int64) for row in ids])
    fits = file.text_index.max() < len(texts)
    places = starts[file.text_index if fits else 0] + file.position
    if not fits or places.max() >= len(flat) or (flat[places] != file.token_ids).any():
        raise UserError(f"{file.path} does not hold the tokens of {corpus}: extract it anew from this corpus")
    ended = places + 1 == starts[file.text_index + 1]
    return np.where(ended, NONE, flat[np.minimum(places + 1, len(flat) - 1)])


def shared_tokens(left: Any, right: Any, least: int) -> Array:
    """The ids, below `least`, that stand for one token in both tokenizers, ascending.

    Rows that pad a vocabulary to a round number stand for no token and are left out.
    """
    theirs = right.get_vocab()
    return np.array(
        sorted(i for token, i in left.get_vocab().items() if i < least and theirs.get(token) == i)
    )
