"""What two sets of texts share: whole texts, and long runs of words.

Evaluation sets are only worth something if nothing in training repeats them, so whatever shares a
run of words with a held-out package is left out of training.
"""

import re
import zlib
from collections.abc import Iterable, Iterator

RUN = 13

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text, without case or punctuation."""
    return _WORD.findall(text.casefold())


def runs_of(text: str, length: int = RUN) -> Iterator[int]:
    """Every run of `length` words as a number; a shorter text is one run, if it has five words."""
    words = words_of(text)
    if len(words) < length:
        if len(words) >= 5:
            yield _number(words)
        return
    for start in range(len(words) - length + 1):
        yield _number(words[start : start + length])


def _number(words: list[str]) -> int:
    # Python's own hash of strings differs from process to process; a clash costs one training text
    joined = " ".join(words).encode()
    return zlib.crc32(joined) << 32 | zlib.adler32(joined)


class Overlap:
    """The runs of words of held-out texts, to ask whether another text repeats any."""

    def __init__(self, texts: Iterable[str]):
        self._runs = {run for text in texts for run in runs_of(text)}

    def repeats(self, text: str) -> bool:
        """Whether the text shares a run of words with a held-out text, or is one of them."""
        return any(run in self._runs for run in runs_of(text))
