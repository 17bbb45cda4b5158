"""Measures as rows: one row a number, with what it compares, in the tidy table's columns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from realign.hrsa.groups import Groups, Interval
from realign.hrsa.reading import Array, before_norm
from realign.measures.registry import statistic_of
from realign.results.columns import COLUMNS, NUMBERS, PUBLISHED, WHOLE
from realign.study.hrsa import Context

SCHEMA = pa.schema(
    (column, pa.int64() if column in WHOLE else pa.float64() if column in NUMBERS else pa.string())
    for column in COLUMNS["measures"]
)


class Rows:
    """Rows of one comparison; `n` is the number of texts, which is what intervals are over."""

    def __init__(
        self, context: Context, attributes: dict[str, Any], groups: Groups, confidence: float = 0.95
    ):
        self.groups, self.confidence = groups, confidence
        self._before_norm = before_norm(attributes)
        self._rows: list[dict[str, Any]] = []
        self.estimands: dict[str, str] = {}
        self._common = context.as_slice()
        self._common.pop("floor")
        self._common["tags"] = ",".join(context.tags)
        self._common["corpus"] = context.corpus or _text(attributes.get("corpus"))
        self._common["attention"] = _text(attributes.get("attention"))
        self._common["token_rule"] = _token_rule(attributes)

    def add(
        self,
        measure: str,
        statistic: str,
        value: float | Interval,
        layers: tuple[int, int] | None = None,
        preset: str = "",
        **more: Any,
    ) -> None:
        """One number; a value that is not finite is a hole in the table, not a number."""
        interval = value if isinstance(value, Interval) else Interval(float(value), np.nan, np.nan)
        left, right = layers or (None, None)
        self._rows.append(
            {
                **self._common,
                "preset": preset,
                "measure": measure,
                "statistic": statistic,
                "layer_left": left,
                "layer_right": right,
                "value": _number(interval.value),
                "ci_low": _number(interval.low),
                "ci_high": _number(interval.high),
                "se": _number(interval.error),
                "df": _number(interval.freedom),
                "n": self.groups.texts,
                **more,
            }
        )

    def add_jackknifed(
        self,
        measure: str,
        statistic: str,
        values: Array,
        layers: tuple[int, int] | None = None,
        excess: float = 0.0,
        most: float = np.inf,
        **more: Any,
    ) -> None:
        """A number with its interval, from the statistic of the whole and with groups left out.

        The measure's declaration says what range the ends are kept within; `most` narrows it where the
        range depends on the states.
        """
        declared = statistic_of(measure, statistic)
        bounds = declared.bounds[0], min(declared.bounds[1], most)
        interval = self.groups.one(values, self.confidence, bounds, excess)
        self.estimands[f"{measure}.{statistic}"] = declared.estimand
        self.add(measure, statistic, interval, layers, **more)

    def layers_of_means(self, layers: int) -> dict[str, list[int]]:
        """The layers that means are over, by preset: ours leave the embedding output out.

        The last block stands in both once, after the final norm.
        """
        blocks = [layer for layer in range(layers) if layer != self._before_norm]
        return {"": blocks[1:] or blocks, PUBLISHED: blocks}

    def add_sample(self) -> None:
        """How much the measures rest on."""
        for statistic, count in (
            ("tokens", self.groups.tokens),
            ("texts", self.groups.texts),
            ("groups", self.groups.count),
        ):
            self.add("sample", statistic, float(count))

    def table(self) -> pa.Table:
        """The rows as an Arrow table with the tidy table's columns, and what its intervals are about."""
        schema = SCHEMA.with_metadata({"estimands": json.dumps(self.estimands)})
        return pa.Table.from_pylist(self._rows, schema)

    def write(self, path: Path) -> None:
        """The rows as Parquet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.table(), path)


def _token_rule(attributes: dict[str, Any]) -> str:
    """Which tokens the states were kept of, in a word: `all`, `20000`, `all-skip4`; `texts` if pooled.

    Model folders are compared without states, so there are neither attributes nor tokens.
    """
    if not attributes:
        return ""
    if _text(attributes.get("level")) == "text":
        return "texts"
    selection = json.loads(_text(attributes.get("selection")) or "{}")
    count, skipped = selection.get("count"), selection.get("skip_first", 0)
    return ("all" if count is None else str(count)) + (f"-skip{skipped}" if skipped else "")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
