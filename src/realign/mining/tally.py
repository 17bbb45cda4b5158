"""What mining counted, for people (JSON), for figures (a long table) and for the log.

Scores are gathered in histograms, since there may be a hundred million of them; the quantiles of
positives and of kept negatives are exact.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from realign.mining.filters import CODE, REASONS

BINS = 80
QUANTILES = (5, 25, 50, 75, 95)
OPEN = ("kept", "relaxed", "spare", "short", "none")  # what no filter refused
REFUSED = [r for r in REASONS if r not in OPEN]


@dataclass
class Tally:
    """Counts and score distributions, gathered block by block."""

    low: float
    high: float
    reasons: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    positives: list[np.ndarray] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    margins: list[np.ndarray] = field(default_factory=list)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def edges(self) -> np.ndarray:
        """The borders of the histograms' bins."""
        return np.linspace(self.low, self.high, BINS + 1)

    def positive(self, scores: np.ndarray) -> None:
        """Take in the scores of positives, each query's once."""
        self.positives.append(scores)
        self._add("positive", scores)

    def candidates(self, scores: np.ndarray, codes: np.ndarray, least: np.ndarray) -> None:
        """Take in judged candidates, row by row."""
        counts = np.bincount(codes.ravel(), minlength=len(REASONS))
        self.reasons.update({r: int(c) for r, c in zip(REASONS, counts, strict=True) if c and r != "none"})
        kept = (codes == CODE["kept"]) | (codes == CODE["relaxed"])
        self.kept.append(scores[kept])
        self.margins.append((np.broadcast_to(least[:, None], scores.shape) - scores)[kept])
        self._add("kept", scores[kept])
        refused = ~np.isin(codes, [CODE[r] for r in OPEN])
        self._add("refused", scores[refused])

    def _add(self, name: str, scores: np.ndarray) -> None:
        counts = np.histogram(np.clip(scores, self.low, self.high), self.edges)[0]
        self.histograms[name] = self.histograms.get(name, 0) + counts

    def report(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Everything counted, for people."""
        return {
            **facts,
            "rows": dict(sorted(self.rows.items())),
            "candidates": {r: self.reasons[r] for r in REASONS if self.reasons[r]},
            "scores": {
                name: _summary(np.concatenate(values) if values else np.empty(0))
                for name, values in (
                    ("positive", self.positives), ("negative", self.kept), ("margin", self.margins),
                )
            },
            "histogram": {
                "edges": [round(float(e), 6) for e in self.edges],
                **{name: counts.tolist() for name, counts in sorted(self.histograms.items())},
            },
        }  # fmt: skip

    def statistics(self) -> list[tuple[str, float]]:
        """The same as (statistic, value), one number a row."""
        reasons = self.reasons
        found: list[tuple[str, float]] = [
            ("pairs_in", self.rows["in"]),
            ("pairs_out", self.rows["out"]),
            ("candidates", sum(reasons.values())),
            ("kept", reasons["kept"] + reasons["relaxed"]),
            ("spare", reasons["spare"]),
            ("short", reasons["short"]),
            ("refused_margin", reasons["absolute_margin"] + reasons["relative_margin"]),
            *((f"refused_{r}", reasons[r]) for r in REFUSED),
            *((f"rows_{name}", count) for name, count in sorted(self.rows.items())),
        ]
        for side, values in (
            ("positive_score", self.positives), ("negative_score", self.kept), ("margin", self.margins),
        ):  # fmt: skip
            scores = np.concatenate(values) if values else np.empty(0)
            if len(scores):
                found.append((f"{side}_mean", float(scores.mean())))
                marks = np.percentile(scores, QUANTILES)
                found += [(f"{side}_p{q:02d}", float(v)) for q, v in zip(QUANTILES, marks, strict=True)]
        for name, counts in sorted(self.histograms.items()):
            found += [
                (f"histogram_{name}@{edge:.4f}", int(count))
                for edge, count in zip(self.edges[:-1], counts, strict=True)
            ]
        return found


def _summary(scores: np.ndarray) -> dict[str, float]:
    if not len(scores):
        return {"count": 0}
    marks = {f"p{q:02d}": float(v) for q, v in zip(QUANTILES, np.percentile(scores, QUANTILES), strict=True)}
    return {
        "count": len(scores),
        "mean": float(scores.mean()),
        "std": float(scores.std()),
        "min": float(scores.min()),
        **marks,
        "max": float(scores.max()),
    }
