"""Which tokens of two files stand for each other, and the error that says why none can.

Two files compare token by token, so both must hold the same tokens of the same texts. `ids` asks
for that; `counts` asks only for equally many tokens in each text, as the published analysis does.
"""

import numpy as np

from realign.artifacts.command import UserError
from realign.hrsa.reading import Array, StateFile


def check_aligned(left: StateFile, right: StateFile, alignment: str = "ids") -> None:
    """Refuse two files whose rows do not stand for the same tokens; the error names the first one."""
    levels = [str(side.attributes.get("level", "token")) for side in (left, right)]
    if levels[0] != levels[1]:
        raise UserError(f"{left.path} holds {levels[0]} states and {right.path} {levels[1]} states")
    if left.tokens != right.tokens:
        raise UserError(_counts_message(left, right))
    _compare("text_index", left.text_index, right.text_index, left, right)
    if alignment == "counts":
        return
    for what in ("position", "token_ids"):
        _compare(what, getattr(left, what), getattr(right, what), left, right)


def _compare(what: str, a: Array | None, b: Array | None, left: StateFile, right: StateFile) -> None:
    if a is None or b is None:
        if (a is None) != (b is None):
            raise UserError(f"only one of {left.path} and {right.path} holds /{what}")
        return
    different = np.flatnonzero(a != b)
    if len(different):
        row = int(different[0])
        hint = "; `alignment: counts` compares them all the same" if what == "token_ids" else ""
        raise UserError(
            f"{left.path} and {right.path} hold different tokens: at row {row} "
            f"(text {left.text_index[row]}) {what} is {a[row]} and {b[row]}{hint}"
        )


def _counts_message(left: StateFile, right: StateFile) -> str:
    texts = np.union1d(left.text_index, right.text_index)
    counts = [np.array([(s.text_index == t).sum() for t in texts]) for s in (left, right)]
    first = int(np.flatnonzero(counts[0] != counts[1])[0])
    return (
        f"{left.path} and {right.path} hold different numbers of tokens: text {texts[first]} has "
        f"{counts[0][first]} and {counts[1][first]}"
    )
