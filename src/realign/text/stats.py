"""What a file of pairs or of texts amounts to: counts, lengths, repetitions."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from realign.text.pairs import PairRow, text_key


class Lengths:
    """Lengths of texts in characters, kept as numbers only."""

    def __init__(self) -> None:
        self._lengths: list[int] = []

    def add(self, text: str) -> None:
        """Count one text."""
        self._lengths.append(len(text))

    def dump(self) -> dict[str, float | int]:
        """Count, total, mean and quantiles."""
        if not self._lengths:
            return {"count": 0}
        values = np.asarray(self._lengths)
        low, mid, high = (int(np.quantile(values, q)) for q in (0.05, 0.5, 0.95))
        return {
            "count": len(values),
            "characters": int(values.sum()),
            "mean": round(float(values.mean()), 1),
            "p05": low,
            "median": mid,
            "p95": high,
            "max": int(values.max()),
        }


class PairStats:
    """Statistics of pairs, gathered while they stream past."""

    def __init__(self) -> None:
        self.rows = self.repeated_queries = self.with_negatives = 0
        self.query, self.positive, self.negative = Lengths(), Lengths(), Lengths()
        self.instructions: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._queries: set[bytes] = set()
        self._positives: set[bytes] = set()

    def watch(self, rows: Iterable[PairRow]) -> Iterator[PairRow]:
        """The same rows, counted."""
        for row in rows:
            self.add(row)
            yield row

    def add(self, row: PairRow) -> None:
        """Count one row."""
        self.rows += 1
        self.query.add(row.query)
        self.instructions[row.instruction] += 1
        self.with_negatives += bool(row.negatives)
        key = text_key(row.query)
        self.repeated_queries += key in self._queries
        self._queries.add(key)
        for text in row.positives:
            self.positive.add(text)
            self._positives.add(text_key(text))
        for text in row.negatives:
            self.negative.add(text)

    def dump(self) -> dict[str, Any]:
        """The statistics as JSON values."""
        return {
            "rows": self.rows,
            "distinct_queries": len(self._queries),
            "repeated_queries": self.repeated_queries,
            "distinct_positives": len(self._positives),
            "rows_with_negatives": self.with_negatives,
            "query_characters": self.query.dump(),
            "positive_characters": self.positive.dump(),
            "negative_characters": self.negative.dump(),
            "instructions": dict(self.instructions.most_common(20)),
            "dropped": dict(sorted(self.dropped.items())),
        }


def text_stats(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Statistics of a corpus of `{"id", "text", "label"?}` rows."""
    lengths, labels, seen = Lengths(), Counter[str](), set[bytes]()
    for row in rows:
        lengths.add(row["text"])
        seen.add(text_key(row["text"]))
        if "label" in row:
            labels[str(row["label"])] += 1
    return {
        "texts": lengths.dump(),
        "distinct_texts": len(seen),
        "labels": dict(sorted(labels.items())),
    }
