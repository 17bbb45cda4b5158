"""Problems from elsewhere, such as GSM8K: questions with worked answers that end in a number."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.study.text import MoreProblems
from realign.text.pairs import text_key
from realign.text.problems import ANSWER_MARK, Problem, number_in
from realign.text.records import read_records
from realign.text.select import first_of_each, in_share, shuffled
from realign.text.streams import LineError

log = logging.getLogger(__name__)
RESULT_MARK = "####"  # what stands before the number in GSM8K's worked answers
_CALCULATOR = re.compile(r"<<[^<>]*>>")  # its notes to a calculator, which no model here has


def further_problems(name: str, source: Path, asked: MoreProblems, seed: int) -> dict[str, list[Problem]]:
    """The problems of a table dealt into `train` and `heldout`; a question is on one side only."""
    left_out: Counter[str] = Counter()
    distinct = first_of_each(_read(name, source, asked, left_out), lambda p: text_key(p.question))
    if left_out:
        log.warning("%s: left out %s, whose answer is no number", source, dict(left_out))
    chosen = shuffled(distinct, lambda p: p.id, seed, "further problems", name)[: asked.limit]
    splits: dict[str, list[Problem]] = {"train": [], "heldout": []}
    for problem in chosen:
        is_held_out = in_share(text_key(problem.question), asked.held_out)
        splits["heldout" if is_held_out else "train"].append(problem)
    for split, problems in splits.items():
        if not problems:
            raise UserError(f"{source}: none of its {len(chosen)} usable problems falls to the split {split}")
    return splits


def _read(name: str, source: Path, asked: MoreProblems, left_out: Counter[str]) -> Iterator[Problem]:
    for number, row in read_records(source, [asked.question, asked.answer]):
        if isinstance(row, LineError):
            raise row
        question, answer = (_text(row, column, source, number) for column in (asked.question, asked.answer))
        steps, _, result = _CALCULATOR.sub("", answer).rpartition(RESULT_MARK)
        result = result.strip()
        if number_in(result) is None:
            left_out["problems"] += 1
            continue
        trace = "\n".join([*filter(None, map(str.strip, steps.splitlines())), f"{ANSWER_MARK} {result}"])
        yield Problem(f"{name}-{number:06d}", question.strip(), result, trace, name, asked.difficulty)


def _text(row: dict[str, Any], column: str, source: Path, number: int) -> str:
    value = row.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise LineError(source, number, f"'{column}' is missing, empty or no text")
    return value
