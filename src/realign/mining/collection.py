"""A dataset as mining sees it: distinct queries, distinct passages, and what belongs together.

Texts that are the same for the purpose of refusing (up to case and white space, unless asked to be
strict) share a class; a query's positives are gathered over all rows that ask it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from realign.artifacts.command import UserError
from realign.text.pairs import PairRow, normalised
from realign.text.streams import LineError, read_objects

Ints = np.ndarray


@dataclass(frozen=True)
class Groups:
    """Lists of numbers laid end to end: `of(i)` is the i-th list."""

    values: Ints
    starts: Ints

    def of(self, index: int) -> Ints:
        """One list."""
        return self.values[self.starts[index] : self.starts[index + 1]]

    def pairs(self, which: Ints) -> tuple[Ints, Ints]:
        """Some lists as pairs of (which of them, value)."""
        sizes = self.sizes[which]
        owner = np.repeat(np.arange(len(which)), sizes)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return owner, self.values[self.starts[which][owner] + within]

    @property
    def sizes(self) -> Ints:
        """The length of each list."""
        return np.diff(self.starts)

    @classmethod
    def pack(cls, lists: Iterable[Sequence[int]]) -> "Groups":
        """Lay lists end to end."""
        lists = list(lists)
        starts = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
        return cls(np.fromiter((v for x in lists for v in x), np.int64, int(starts[-1])), starts)


APART = "\0"  # between an instruction and its query


@dataclass(frozen=True)
class Collection:
    """The rows of a dataset, and everything mining asks about them by number."""

    rows: list[PairRow]
    queries: list[str]  # as the teacher reads them
    passages: list[str]  # distinct; what is searched
    row_query: Ints  # the query of each row
    query_positives: Groups  # the passages that answer each query, in any row
    query_class: Ints  # the class of the query's own text; -1 where no passage has it
    passage_class: Ints  # the class of each passage
    row_existing: Groups  # classes of each row's negatives
    searched: Ints | None  # the passages that may be negatives, where not all may
    merged: int  # negatives that came from repetitions of a row

    @property
    def most_positives(self) -> int:
        """The greatest number of positives that a query has."""
        return int(self.query_positives.sizes.max())


def collect(
    rows: Iterable[PairRow],
    corpus: Iterable[str] = (),
    exact: bool = False,
    instructions: bool = False,
    only_corpus: bool = False,
    dropped: Counter[str] | None = None,
) -> Collection:
    """Gather a dataset: repetitions become one row and are counted, texts and classes are numbered."""
    dropped = Counter() if dropped is None else dropped
    same: Callable[[str], str] = str if exact else normalised
    passages, classes = _Numbers(), _Numbers()
    for text in corpus:
        passages.of(text)
    from_corpus = len(passages)
    kept, merged = _distinct(rows, same, dropped)
    if not kept:
        raise UserError("no row is left to mine negatives for")

    queries, groups = _Numbers(), _Numbers()
    # Apart from one another, so that a query is the same text in all its rows: "A " before "b" is not "A b".
    told = [r.instruction if instructions else "" for r in kept]
    row_query = np.array([queries.of(f"{t}{APART}{r.query}") for t, r in zip(told, kept, strict=True)])
    row_group = [groups.of(same(row.query)) for row in kept]
    group_positives: list[dict[int, None]] = [{} for _ in range(len(groups))]
    group_same: list[set[str]] = [set() for _ in range(len(groups))]
    for row, group in zip(kept, row_group, strict=True):
        group_positives[group].update(dict.fromkeys(map(passages.of, row.positives)))
        group_same[group].update(map(same, row.positives))
    kept = [_clean(row, group_same[g], same, dropped) for row, g in zip(kept, row_group, strict=True)]

    passage_class = np.array([classes.of(same(text)) for text in passages.texts])
    query_group = np.zeros(len(queries), np.int64)
    query_class = np.full(len(queries), -1, np.int64)
    for row, query, group in zip(kept, row_query, row_group, strict=True):
        query_group[query] = group
        query_class[query] = classes.get(same(row.query))
    return Collection(
        kept,
        [text.replace(APART, "", 1) for text in queries.texts],
        passages.texts,
        row_query,
        Groups.pack(tuple(group_positives[group]) for group in query_group),
        query_class,
        passage_class,
        Groups.pack([c for t in r.negatives if (c := classes.get(same(t))) >= 0] for r in kept),
        np.arange(from_corpus) if only_corpus else None,
        merged,
    )


def read_corpus(path: Path) -> Iterator[str]:
    """The passages of a JSONL file of rows with a `text`."""
    for number, value in read_objects(path):
        if isinstance(value, LineError):
            raise value
        text = value.get("text")
        if not isinstance(text, str) or not text.strip():
            raise LineError(path, number, "'text' is missing, empty or no text")
        yield text


class _Numbers:
    """Numbers for distinct texts, in the order of their first occurrence."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def get(self, text: str) -> int:
        return self._numbers.get(text, -1)

    @property
    def texts(self) -> list[str]:
        return list(self._numbers)


def _distinct(
    rows: Iterable[PairRow], same: Callable[[str], str], dropped: Counter[str]
) -> tuple[list[PairRow], int]:
    """One row for each query with the same positives: the first, with the negatives of all.

    Also how many negatives it took over from the others.
    """
    first: dict[tuple[str, ...], PairRow] = {}
    more: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        key = (same(row.query), *sorted(map(same, row.positives)))
        if key in first:
            dropped["duplicate"] += 1
            more.setdefault(key, []).extend(row.negatives)
        else:
            first[key] = row
    merged = 0
    for key, texts in more.items():
        own = first[key].negatives
        seen, new = set(map(same, own)), []
        for text in texts:
            if same(text) not in seen:
                seen.add(same(text))
                new.append(text)
        if new:  # which have no scores of the first row's teacher
            unscored = replace(first[key], positive_scores=(), negative_scores=())
            first[key] = replace(unscored, negatives=(*own, *new))
        merged += len(new)
    return list(first.values()), merged


def _clean(row: PairRow, positives: set[str], same: Callable[[str], str], dropped: Counter[str]) -> PairRow:
    """The row without negatives that are positives of its query, or that it lists twice."""
    seen = set(positives)

    def stays(text: str) -> bool:
        if same(text) in seen:
            reason = "positive" if same(text) in positives else "repeated"
            dropped[f"existing negative, {reason}"] += 1
            return False
        seen.add(same(text))
        return True

    return row.keeping(stays)
