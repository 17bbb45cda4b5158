"""What two sets of texts share: whole texts, and long runs of words.

Evaluation sets are only worth something if nothing in training repeats them, so whatever shares a
run of words with a held-out package is left out of training.
"""

import re
from collections.abc import Iterable, Iterator

RUN = 13

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text, without case or punctuation."""
    return _WORD.findall(text.casefold())


def runs_of(text: str, length: int = RUN) -> Iterator[tuple[str, ...]]:
    """Every run of `length` words; a shorter text is one run, if it has five words."""
    words = words_of(text)
    if len(words) >= length:
        return zip(*(words[start:] for start in range(length)), strict=False)
    return iter([tuple(words)] if len(words) >= 5 else [])


class Overlap:
    """The runs of words of held-out texts, to ask whether another text repeats any."""

    def __init__(self, texts: Iterable[str]):
        self._runs = {run for text in texts for run in runs_of(text)}

    def repeats(self, text: str) -> bool:
        """Whether the text shares a run of words with a held-out text, or is one of them."""
        return any(run in self._runs for run in runs_of(text))
