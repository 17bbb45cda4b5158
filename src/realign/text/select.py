"""Choosing and cutting texts so that the choice is stable: by seed and name, never by order found."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from realign.seeds import derive_seed

T = TypeVar("T")

_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")


def shuffled(items: Iterable[T], key: Callable[[T], str], seed: int, *purpose: object) -> list[T]:
    """The items in an order that depends on seed, purpose and each item's own key alone."""
    salt = str(derive_seed(seed, *purpose)).encode()

    def place(item: T) -> bytes:
        return hashlib.blake2b(salt + key(item).encode(), digest_size=16).digest()

    return sorted(items, key=lambda item: (place(item), key(item)))


def in_share(digest: bytes, share: float) -> bool:
    """Whether what has this digest is in a share of all; a larger share holds whatever a smaller one does."""
    return int.from_bytes(digest[:8], "big") < share * 2**64


def cut(text: str, limit: int) -> str:
    """The text up to the last sentence or line that ends within `limit` characters, else up to a word."""
    if len(text) <= limit:
        return text
    ends = [m.end() for m in _SENTENCE_END.finditer(text, 0, limit)]
    end = ends[-1] if ends and ends[-1] >= limit // 3 else text.rfind(" ", 0, limit)
    return text[: end if end > 0 else limit].rstrip()


def cut_lines(code: str, limit: int) -> str:
    """The code's whole lines within `limit` characters."""
    if len(code) <= limit:
        return code
    end = code.rfind("\n", 0, limit)
    return code[:end].rstrip() if end > 0 else code[:limit]


def first_of_each(items: Iterable[T], *keys: Callable[[T], bytes]) -> list[T]:
    """The items, leaving out each that repeats an earlier one in any of the keys."""
    seen: tuple[set[bytes], ...] = tuple(set() for _ in keys)
    kept = []
    for item in items:
        values = [key(item) for key in keys]
        if any(value in known for value, known in zip(values, seen, strict=True)):
            continue
        for value, known in zip(values, seen, strict=True):
            known.add(value)
        kept.append(item)
    return kept


def deal(items: Sequence[T], group_of: Callable[[T], str], count: int) -> list[T]:
    """Up to `count` items, one from each group in turn, so that no group crowds out the others."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(group_of(item), []).append(item)
    waiting = [list(reversed(groups[name])) for name in sorted(groups)]
    dealt: list[T] = []
    while waiting and len(dealt) < count:
        for group in waiting:
            dealt.append(group.pop())
        waiting = [group for group in waiting if group]
    return dealt[:count]
