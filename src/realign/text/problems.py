"""Problems with verifiable answers: the format, and the scorer that rewards and pass rates use.

A completion's answer is the one number after its last `Answer:`. It is compared exactly, as a
fraction, so that 0.5, 1/2 and .50 are the same and 0.33 is not 1/3.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from realign.text.streams import LineError, read_objects

ANSWER_MARK = "Answer:"

_ANSWER_LINE = re.compile(r"^[ \t]*Answer:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
# words after a number that make another number of it, or of several
_NO_UNIT = "or|and|to|plus|minus|times|over|point|dozen|hundred|thousand|[mbtr]+illion"
# one number: a sign, digits with or without thousands separators, a decimal part, or a fraction;
# around it at most a currency sign before and a unit in letters (or %) after
_NUMBER = re.compile(
    r"^[$€£]?\s*(?P<sign>[-+−]?)\s*[$€£]?(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?P<decimals>\.\d+)?(?:\s*/\s*(?P<below>\d+))?"
    r"\s*(?:%|°)?\s*(?!(?i:" + _NO_UNIT + r")\b)(?:[A-Za-z]+(?:[ /][A-Za-z]+)?)?\.?$",
    re.ASCII,
)
_LONGEST = 100  # characters; nothing longer is an answer


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its right answer, and a worked solution that ends in an answer, right or wrong."""

    id: str
    question: str
    answer: str
    trace: str
    task: str
    difficulty: int

    @property
    def prompt(self) -> str:
        """What a language model is given; its completion is scored."""
        return f"{self.question}\n"

    @property
    def text(self) -> str:
        """What a language model is trained on: the question and the worked solution."""
        return self.prompt + self.trace

    def dump(self) -> dict[str, Any]:
        """The problem as a row."""
        return asdict(self)


def parse_problem(value: dict[str, Any]) -> Problem:
    """The problem in a row; raises ValueError with what is missing or wrong."""
    texts = {}
    for key in ("id", "question", "answer", "trace", "task"):
        if not isinstance(value.get(key), str) or (key != "trace" and not value[key].strip()):
            raise ValueError(f"'{key}' is missing or no text")
        texts[key] = value[key]
    difficulty = value.get("difficulty", 1)
    if not isinstance(difficulty, int):
        raise ValueError("'difficulty' is no whole number")
    if number_in(texts["answer"]) is None:
        raise ValueError(f"'answer' is no number: {texts['answer']!r}")
    return Problem(**texts, difficulty=difficulty)


def read_problems(path: Path) -> Iterator[Problem]:
    """The problems of a file, each checked; what is wrong names the line."""
    for number, value in read_objects(path):
        if isinstance(value, LineError):
            raise value
        try:
            yield parse_problem(value)
        except ValueError as error:
            raise LineError(path, number, str(error)) from None


def number_in(text: str) -> Fraction | None:
    """The single number that a text is, units aside; nothing for none, several, or more than that."""
    found = _NUMBER.match(text.strip()) if len(text) <= _LONGEST else None
    if not found or not (found["whole"] or found["decimals"]):
        return None
    below = int(found["below"]) if found["below"] else 1
    if below == 0:
        return None
    value = Fraction((found["whole"].replace(",", "") or "0") + (found["decimals"] or "")) / below
    return -value if found["sign"] in ("-", "−") else value


def answer_of(completion: str) -> str | None:
    """What a completion says after its last `Answer:`, or nothing."""
    lines = _ANSWER_LINE.findall(completion)
    return lines[-1] if lines else None


def has_format(completion: str) -> bool:
    """Whether a completion gives exactly one answer, and that is one number."""
    lines = _ANSWER_LINE.findall(completion)
    return len(lines) == 1 and number_in(lines[0]) is not None


def score(completion: str, answer: str) -> float:
    """1.0 when the completion's answer equals the right one as a number, else 0.0."""
    given = answer_of(completion)
    if given is None:
        return 0.0
    number = number_in(given)
    return float(number is not None and number == number_in(answer))
