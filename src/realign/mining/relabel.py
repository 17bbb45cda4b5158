"""Mending mined negatives: a judge labels all of them, or the riskiest, before anything is trained on them.

The riskiest are those of smallest margin: the teacher holds them nearly as close as an answer. A negative
that answers its query is counted, taken out, or made a positive. Answers are kept as they come, so
a job that was killed asks only for what is missing.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from realign.artifacts.command import Job, UserError
from realign.mining.judges import judge_of, labels_of, questions_of
from realign.study.judging import RelabelJob
from realign.text.pairs import PairRow, read_pairs, write_pairs
from realign.text.streams import write_json

log = logging.getLogger(__name__)


def run(job: Job[RelabelJob]) -> None:
    """Relabel one dataset."""
    settings = job.settings
    rows = list(read_pairs(job.input("mined")))
    asked = chosen(rows, pq.read_table(job.input("margins")), settings)
    labels = labels_of(job, judge_of(job), questions_of(rows, asked))
    wrong = {at for at, label in zip(asked, labels, strict=True) if label}

    counts: Counter[str] = Counter()
    write_pairs(job.output("pairs"), mended(rows, wrong, settings, counts))
    columns = {"row": [row for row, _ in asked], "place": [place for _, place in asked], "answers": labels}
    schema = pa.schema([("row", pa.int32()), ("place", pa.int32()), ("answers", pa.bool_())])
    pq.write_table(pa.table(columns, schema=schema), job.output("labels"))
    report = {
        "dataset": settings.dataset,
        "negatives": sum(len(row.negatives) for row in rows),
        "judged": len(asked),
        "not_understood": sum(label is None for label in labels),
        "answers": len(wrong),
        "rows": {
            "in": len(rows),
            "out": counts["out"],
            "changed": counts["changed"],
            "dropped": counts["dropped"],
        },
    }
    write_json(job.output("report"), report)
    job.note(**report)
    log.info("%s: %d of %d judged negatives answer their query", settings.dataset, len(wrong), len(asked))
    if not counts["out"]:
        raise UserError(
            f"{job.input('mined')}: no row is left with {settings.least} negatives; lower `least`"
        )


def chosen(rows: Sequence[PairRow], negatives: pa.Table, settings: RelabelJob) -> list[tuple[int, int]]:
    """The negatives to judge, as (row, place), in the file's order."""
    if settings.judged == "all":
        return [(number, place) for number, row in enumerate(rows) for place in range(len(row.negatives))]
    margins = negatives["margin"].to_numpy()
    riskiest = np.sort(np.argsort(margins, kind="stable")[: round(settings.share * len(margins))])
    table = negatives.take(riskiest)
    return list(zip(table["row"].to_pylist(), table["place"].to_pylist(), strict=True))


def mended(
    rows: Sequence[PairRow], wrong: set[tuple[int, int]], settings: RelabelJob, counts: Counter[str]
) -> Iterator[PairRow]:
    """The rows with what is left of their negatives; those with too few are left out."""
    for number, row in enumerate(rows):
        out = {text for place, text in enumerate(row.negatives) if (number, place) in wrong}
        if settings.answers == "keep" or not out:
            counts["out"] += 1
            yield row
            continue
        counts["changed"] += 1
        left = row.keeping(lambda text: text not in out)  # noqa: B023 (called at once)
        if settings.answers == "promote":
            scores = dict(zip(row.negatives, row.negative_scores, strict=False))  # there may be none
            promoted = tuple(dict.fromkeys(text for text in row.negatives if text in out))
            left = replace(
                left,
                positives=(*row.positives, *promoted),
                positive_scores=(*row.positive_scores, *(scores[text] for text in promoted if scores)),
            )
        if len(left.negatives) < settings.least:
            counts["dropped"] += 1
            continue
        counts["out"] += 1
        yield left
