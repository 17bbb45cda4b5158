"""Training pairs: `{"query": [instruction, text], "pos": [text, …], "neg": [text, …]}` a line.

A row may bring a teacher's scores of its passages (`pos_scores`, `neg_scores`) and a `weight`.

Rows are read one at a time from plain, gzip or zstd files, and every row is checked. What is wrong
names the file and the line; by choice such rows are dropped and counted instead.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from realign.text.streams import (
    MAX_LINE_BYTES,
    LineError,
    dump_line,
    open_for_lines,
    read_objects,
)

Invalid = Literal["error", "drop"]


@dataclass(frozen=True, slots=True)
class PairRow:
    """One query with what answers it and what does not."""

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    instruction: str = ""
    positive_scores: tuple[float, ...] = ()  # a teacher's, one for each positive, or none at all
    negative_scores: tuple[float, ...] = ()
    weight: float = 1.0  # how much the row counts in a loss

    def dump(self) -> dict[str, Any]:
        """The row as the format spells it."""
        scores = {"pos_scores": list(self.positive_scores), "neg_scores": list(self.negative_scores)}
        return {
            "query": [self.instruction, self.query],
            "pos": list(self.positives),
            "neg": list(self.negatives),
            **(scores if self.positive_scores else {}),
            **({"weight": self.weight} if self.weight != 1 else {}),
        }

    def keeping(self, stays: Callable[[str], bool]) -> "PairRow":
        """The row with those of its negatives that may stay, and their scores."""
        kept = [place for place, text in enumerate(self.negatives) if stays(text)]
        if len(kept) == len(self.negatives):
            return self
        return replace(
            self,
            negatives=tuple(self.negatives[place] for place in kept),
            negative_scores=tuple(self.negative_scores[place] for place in kept if self.negative_scores),
        )


def parse_pair(value: dict[str, Any]) -> PairRow:
    """The row in a JSON object; raises ValueError with the reason when it is none."""
    instruction, query = _query(value.get("query"))
    positives = _passages(value, "pos")
    if not positives:
        raise ValueError("'pos' is missing or empty: a row needs a positive")
    negatives = _passages(value, "neg")
    row = PairRow(
        query, positives, negatives, instruction, *_scores(value, positives, negatives), _weight(value)
    )
    try:
        "".join((instruction, query, *positives, *row.negatives)).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair: not a text") from None
    return row


def _query(given: Any) -> tuple[str, str]:
    if isinstance(given, str):
        instruction, text = "", given
    elif isinstance(given, list) and len(given) == 2 and all(isinstance(x, str) for x in given):
        instruction, text = given
    elif given is None:
        raise ValueError("'query' is missing")
    else:
        raise ValueError("'query' is neither a text nor [instruction, text]")
    if not text.strip():
        raise ValueError("the query is empty")
    return instruction, text


def _passages(value: dict[str, Any], key: str) -> tuple[str, ...]:
    given = value.get(key)
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, list):
        raise ValueError(f"'{key}' is no list of texts")
    return tuple(_passage(item, key) for item in given)


def _passage(item: Any, key: str) -> str:
    # GritLM writes a passage as [instruction, text] too
    if isinstance(item, list) and len(item) == 2 and all(isinstance(x, str) for x in item):
        item = "".join(item)
    if not isinstance(item, str):
        raise ValueError(f"'{key}' holds something that is no text")
    if not item.strip():
        raise ValueError(f"'{key}' holds an empty text")
    return item


def _scores(
    value: dict[str, Any], positives: tuple[str, ...], negatives: tuple[str, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    given = [value.get("pos_scores") or [], value.get("neg_scores") or []]
    if not any(given):
        return (), ()
    for key, scores, passages in zip(("pos", "neg"), given, (positives, negatives), strict=True):
        if not isinstance(scores, list) or len(scores) != len(passages):
            raise ValueError(f"'{key}_scores' is no list with a score for each text of '{key}'")
        if not all(map(_is_number, scores)):
            raise ValueError(f"'{key}_scores' holds something that is no finite number")
    return tuple(map(float, given[0])), tuple(map(float, given[1]))


def _weight(value: dict[str, Any]) -> float:
    weight = value.get("weight")
    if weight is None:
        return 1.0
    if not _is_number(weight) or weight < 0:
        raise ValueError("'weight' is no finite number from 0")
    return float(weight)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_pairs(
    path: Path,
    invalid: Invalid = "error",
    refused: Counter[str] | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[PairRow]:
    """The rows of a file, one at a time.

    A line that is no usable row (not UTF-8, too long, not JSON, an empty query, no positive, an
    empty passage) raises `LineError`; with `invalid="drop"` it is left out and counted by its
    reason in `refused`.
    """
    for number, value in read_objects(path, max_line_bytes):
        problem = value if isinstance(value, LineError) else None
        if problem is None:
            try:
                yield parse_pair(value)  # type: ignore[arg-type]
                continue
            except ValueError as error:
                problem = LineError(path, number, str(error))
        if invalid == "error":
            raise problem
        if refused is not None:
            refused[problem.reason.split(" (")[0]] += 1


def write_pairs(path: Path, rows: Iterable[PairRow]) -> int:
    """Write rows, packed as the path's suffix says; returns how many."""
    count = 0
    with open_for_lines(path) as stream:
        for row in rows:
            stream.write(dump_line(row.dump()))
            count += 1
    return count


def normalised(text: str) -> str:
    """A text for comparing: case and white space do not make two texts differ."""
    return " ".join(text.casefold().split())


def text_key(*texts: str) -> bytes:
    """Sixteen bytes that stand for texts up to case and white space."""
    joined = "\0".join(map(normalised, texts)).encode()
    return hashlib.blake2b(joined, digest_size=16).digest()


def without_duplicates(rows: Iterable[PairRow], dropped: Counter[str] | None = None) -> Iterator[PairRow]:
    """The rows without repetitions of a query with the same positives; the first one stays."""
    seen: set[bytes] = set()
    for row in rows:
        key = text_key(row.query, *sorted(row.positives))
        if key in seen:
            if dropped is not None:
                dropped["duplicate"] += 1
            continue
        seen.add(key)
        yield row
