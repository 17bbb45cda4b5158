"""Which rows of two files stand for each other, and the error that says why none can.

By `ids` both files must hold the same token of the same text at the same place, row by row. By
`counts`, as published, the texts need only have equally many tokens. By `offsets` the rows compared
are those whose token is the same characters of the same text in both files, whatever the two
tokenizers make of the rest.
"""

import logging

import numpy as np

from realign.artifacts.command import UserError
from realign.hrsa.reading import Array, Picked, StateFile, States
from realign.study.hrsa import Alignment

log = logging.getLogger(__name__)
_ADVICE = "extract both with the same corpus, token selection and seed"
_OTHER_TOKENIZER = (
    "the models tokenize differently; `alignment: offsets` compares the tokens that both have, "
    "`counts` the tokens at equal places"
)


class OtherTokenizer(UserError):
    """Two files whose texts were cut into other tokens."""


def align(left: StateFile, right: StateFile, alignment: Alignment = "ids") -> tuple[States, States]:
    """Both files' states at the rows that are compared; an error names the first difference."""
    if left.level != right.level:
        raise UserError(f"{left.path} holds {left.level} states and {right.path} {right.level} states")
    if (left.before_norm is None) != (right.before_norm is None):
        raise UserError(
            f"only one of {left.path} and {right.path} keeps the last block before the final norm, so "
            "their layers do not correspond; extract both with the same states.before_norm"
        )
    _check_making(left, right)
    if alignment == "offsets":
        if left.text_ids != right.text_ids:
            raise UserError(f"{left.path} and {right.path} are of different texts; {_ADVICE}")
        return _same_texts(left, right) if left.level == "text" else _same_characters(left, right)
    _check(left, right, "text_tokens", "text {at} has {value} tokens", _OTHER_TOKENIZER)
    if left.tokens != right.tokens:
        raise UserError(f"{left.path} keeps {left.tokens} rows and {right.path} {right.tokens}; {_ADVICE}")
    _check(left, right, "text_index", "row {at} belongs to text {value}", _ADVICE)
    _check(left, right, "position", "row {at} is at position {value}", _ADVICE)
    if alignment == "ids":
        _check(left, right, "token_ids", "row {at} is token {value}", _OTHER_TOKENIZER)
    return left, right


def _check_making(left: StateFile, right: StateFile) -> None:
    """Refuse files of other texts, or made otherwise; where only the attention is another one, say so."""
    a, b = left.attributes, right.attributes

    def differ(name: str) -> bool:
        return a.get(name) is not None and b.get(name) is not None and a[name] != b[name]

    if differ("corpus_hash"):
        names = f"{a.get('corpus')} and {b.get('corpus')}"
        raise UserError(
            f"{left.path} and {right.path} are not of the same texts (corpora {names}); {_ADVICE}"
        )
    for name in ("special_tokens", *(["pooling"] if left.level == "text" else [])):
        if differ(name):
            raise UserError(f"{left.path} and {right.path} differ in {name}: {a[name]} and {b[name]}")
    if differ("compute"):  # rounding differs by more than many a pair of models does
        raise UserError(
            f"{left.path} was computed in {a['compute']} and {right.path} in {b['compute']}: `compute: auto` "
            "is bfloat16 on a GPU and float32 on a CPU; set states.compute, which extracts both anew"
        )
    if differ("storage"):
        log.warning("%s is stored in %s, %s in %s", left.path, a["storage"], right.path, b["storage"])
    if differ("attention"):
        log.warning("%s is of %s attention, %s of %s", left.path, a["attention"], right.path, b["attention"])


def _check(left: StateFile, right: StateFile, name: str, fact: str, advice: str) -> None:
    """Refuse two files that differ in what stands for a row, or for a text."""
    a, b = getattr(left, name), getattr(right, name)
    if a is None or b is None:
        if (a is None) != (b is None):
            raise UserError(f"only one of {left.path} and {right.path} holds /{name}")
        return
    if len(a) != len(b):
        raise UserError(f"{left.path} and {right.path} differ in length of {name}: {len(a)} and {len(b)}")
    if not len(different := np.flatnonzero(a != b)):
        return
    at = int(different[0])
    where = "" if name == "text_tokens" else f" (text {left.text_name(int(left.text_index[at]))})"
    here, there = (fact.format(at=at, value=int(side[at])) for side in (a, b))
    refusal = OtherTokenizer if advice == _OTHER_TOKENIZER else UserError
    raise refusal(
        f"{left.path} and {right.path} do not hold the same tokens: in the first, {here}{where}, in the "
        f"second, {there} ({len(different)} differences in {name}; {advice})"
    )


def _same_texts(left: StateFile, right: StateFile) -> tuple[States, States]:
    """Pooled states of the same texts, however many tokens these have in either model."""
    _check(left, right, "text_index", "row {at} belongs to text {value}", _ADVICE)
    return left, right


def _same_characters(left: StateFile, right: StateFile) -> tuple[States, States]:
    """The rows whose characters are a token in both files, in the order of the first."""
    base = 1 + max(int(_offsets(side).max(initial=0)) for side in (left, right))
    (rows, keys), (other_rows, other_keys) = (_by_characters(side, base) for side in (left, right))
    _, here, there = np.intersect1d(keys, other_keys, assume_unique=True, return_indices=True)
    rows, other_rows = rows[here], other_rows[there]
    if not len(rows):
        raise UserError(f"{left.path} and {right.path} share no token; keep all of them (tokens.count: null)")
    log.info(
        "%d tokens are the same characters in both files, of %d and %d", len(rows), left.tokens, right.tokens
    )
    order = np.argsort(rows)
    return Picked(left, rows[order]), Picked(right, other_rows[order])


def _by_characters(side: StateFile, base: int) -> tuple[Array, Array]:
    """Rows whose token has characters to itself, and a number for each that says which of which text.

    A token that is blank has none, and one of several that a character was cut into is left out.
    """
    start, end = _offsets(side).astype(np.int64).T
    numbers = (side.text_index.astype(np.int64) * base + start) * base + end
    keys, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    alone = (counts == 1) & (end > start)[first]
    return first[alone], keys[alone]


def _offsets(side: StateFile) -> Array:
    if side.offsets is None or (len(side.offsets) and side.offsets.min() < 0):
        raise UserError(f"{side.path} does not say which characters its tokens are; compare by ids or counts")
    return side.offsets
