"""Counting traces: how many there are, were skipped, were judged, and are right.

Judged and right are counted apart. In the paper's Table 11 the column Valid holds the judged ones
for three sets and the right ones for the fourth, and its accuracy is right by total in each row but
judged by total in the last.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from realign.artifacts.command import Job, UserError
from realign.study.traces import CountJob
from realign.text.records import read_records
from realign.text.streams import LineError

YES, NO = {"1", "1.0", "true", "yes", "correct"}, {"0", "0.0", "false", "no", "incorrect"}
COLUMNS = ("total", "skipped", "judged", "correct")


def run(job: Job[CountJob]) -> None:
    """Count released or generated sets, each from its own file."""
    paths = job.inputs_of("traces")
    if len(paths) != len(job.settings.sets):
        raise UserError(f"{len(paths)} files were given for {len(job.settings.sets)} names of sets")
    counts = []
    for name, path in zip(job.settings.sets, paths, strict=True):
        by_source: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for _, row in read_records(path):
            if isinstance(row, LineError):
                raise row
            by_source[str(row.get("dataset") or name)].append(row)
        for source, rows in by_source.items():
            counts.append({**count_traces(name, rows), "source": source})
    write_counts(job.output("counts"), counts)


def count_traces(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of one set; a trace that was skipped is not judged, whatever label it carries."""
    verdicts = [verdict_of(row) for row in rows]
    skipped = [_truth(row.get("skipped")) is True for row in rows]
    return {
        "set": name,
        "source": name,
        "total": len(rows),
        "skipped": sum(skipped),
        "judged": sum(v is not None and not s for v, s in zip(verdicts, skipped, strict=True)),
        "correct": sum(v is True and not s for v, s in zip(verdicts, skipped, strict=True)),
    }


def verdict_of(row: Mapping[str, Any]) -> bool | None:
    """Whether a trace's answer is right: as labelled, as judged, or by its reference."""
    for key in ("correctness_label", "judged_correct", "matches_reference"):
        if (verdict := _truth(row.get(key))) is not None:
            return verdict
    return None


def _truth(value: Any) -> bool | None:
    word = str(value).strip().lower()
    return True if word in YES else False if word in NO else None


def write_counts(path: Path, counts: Iterable[Mapping[str, Any]]) -> None:
    """The counts of sets with their accuracies and, last, all together, as CSV."""
    table = pd.DataFrame(list(counts), columns=["set", "source", *COLUMNS])
    together = {"set": "all", "source": "all", **{name: table[name].sum() for name in COLUMNS}}
    table = pd.concat([table, pd.DataFrame([together])], ignore_index=True)
    table["correct_of_total"] = (table["correct"] / table["total"]).round(4)
    table["correct_of_judged"] = (table["correct"] / table["judged"].where(table["judged"] > 0)).round(4)
    table.to_csv(path, index=False)
