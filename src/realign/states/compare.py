"""Whether two files of hidden states may be compared row by row, and if not, where they part.

By `ids`, rows must be the same token of the same text at the same place. By `offsets` they must be the
same characters of the same text: the models may number tokens differently. By `counts`, as published,
the texts need only have equally many tokens.
"""

from typing import Literal

import numpy as np

from realign.artifacts.command import UserError
from realign.states.reader import StatesFile

Alignment = Literal["ids", "offsets", "counts"]


def check_comparable(left: StatesFile, right: StatesFile, alignment: Alignment = "ids") -> None:
    """Stop unless the rows of two files stand for the same tokens; the error names the first difference."""
    if left.pooled != right.pooled:
        raise UserError(f"{left.path} holds {_level(left)} states and {right.path} {_level(right)} states")
    _same(left, right, "text_tokens", "text {at} has {a} tokens", "text {at} has {b} tokens")
    if left.rows != right.rows:
        raise UserError(f"{left.path} keeps {left.rows} rows and {right.path} {right.rows}; {_ADVICE}")
    _same(left, right, "text_index", "row {at} belongs to text {a}", "row {at} belongs to text {b}")
    _same(left, right, "position", "row {at} is at position {a}", "row {at} is at position {b}")
    if alignment == "offsets":
        _same_characters(left, right)
    if alignment == "ids":
        _same(left, right, "token_ids", "row {at} is token {a}", "row {at} is token {b}")


_ADVICE = "extract both with the same corpus, token selection and seed"


def _level(file: StatesFile) -> str:
    return "pooled" if file.pooled else "token"


def _same(left: StatesFile, right: StatesFile, name: str, here: str, there: str) -> None:
    a, b = getattr(left, name), getattr(right, name)
    if len(a) != len(b):
        raise UserError(
            f"{left.path} and {right.path} differ in length of {name}: {len(a)} and {len(b)}; {_ADVICE}"
        )
    if not len(differ := np.flatnonzero(a != b)):
        return
    at = int(differ[0])
    where = "" if name == "text_tokens" else _where(left, at)
    facts = {"at": at, "a": int(a[at]), "b": int(b[at])}
    advice = "the models tokenize differently" if name in ("token_ids", "text_tokens") else _ADVICE
    raise UserError(
        f"{left.path} and {right.path} do not hold the same tokens: "
        f"in the first, {here.format(**facts)}{where}, in the second, {there.format(**facts)} "
        f"({len(differ)} differences in {name}; {advice})"
    )


def _same_characters(left: StatesFile, right: StatesFile) -> None:
    a, b = left.offsets, right.offsets
    for file, offsets in ((left, a), (right, b)):
        if offsets is None or (len(offsets) and offsets.min() < 0):
            raise UserError(
                f"{file.path} does not say which characters its tokens are; compare by ids or counts"
            )
    assert a is not None  # as the loop has seen
    assert b is not None
    if len(differ := np.flatnonzero((a != b).any(axis=1))):
        at = int(differ[0])
        raise UserError(
            f"{left.path} and {right.path} do not hold the same characters: row {at}{_where(left, at)} is "
            f"{a[at, 0]} to {a[at, 1]} in the first and {b[at, 0]} to {b[at, 1]} in the second"
        )


def _where(file: StatesFile, row: int) -> str:
    text = int(file.text_index[row])
    return f" (text '{file.text_ids[text]}', position {int(file.position[row])})"
