"""Keeping the rows whose positive stands far enough above their hardest negative.

The margin is the teacher's score of the first positive less its highest score of a negative. What
the authors describe and what their code does differ; both are presets.
"""

import logging
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from realign.artifacts.command import Job, UserError
from realign.mining.teaching import teacher_of, vectors_of
from realign.study.mining import Margin, MarginJob
from realign.text.pairs import PairRow, read_pairs, write_pairs
from realign.text.streams import write_json
from realign.vectors.exact import pair_scores

log = logging.getLogger(__name__)


def run(job: Job[MarginJob]) -> None:
    """Filter one dataset."""
    rules = job.settings.margin
    dropped: Counter[str] = Counter()
    source = job.input("mined")
    rows = list(read_pairs(source, job.settings.invalid, dropped))
    fit = np.array([_fits(row, rules) for row in rows], bool)
    margins = np.full(len(rows), np.nan)
    margins[fit] = _margins(job, [row for row, fits in zip(rows, fit, strict=True) if fits])
    kept = select(margins, rules)
    write_pairs(job.output("pairs"), (rows[i] for i in kept))

    stays = np.zeros(len(rows), bool)
    stays[kept] = True
    table = pa.table({"row": np.arange(len(rows), dtype=np.int32), "margin": margins, "kept": stays})
    pq.write_table(table, job.output("margins"))
    report = {
        "preset": rules.preset,
        "threshold": rules.threshold,
        "rows_left_out": dict(sorted(dropped.items())),
        "rows_in": len(rows),
        "rows_with_other_numbers_of_negatives": int((~fit).sum()),
        "rows_out": len(kept),
    }
    write_json(job.output("report"), report)
    job.note(**report)
    log.info("%d of %d rows stay", len(kept), len(rows))
    if not len(kept):
        raise UserError(f"{source}: the margin filter leaves no row; see margin.threshold and margin.preset")


def select(margins: np.ndarray, rules: Margin) -> np.ndarray:
    """The rows that stay, in the order asked for; a row whose margin is no number never stays."""
    ranked = np.flatnonzero(~np.isnan(margins))
    ranked = ranked[np.argsort(-margins[ranked], kind="stable")]  # equal margins in the file's order
    above = int(np.searchsorted(-margins[ranked], -rules.threshold, "left"))
    if rules.preset == "documented":
        ranked = ranked[:above]
    elif rules.threshold > 0 and above < len(ranked):
        ranked = ranked[above + 1 :]
    ranked = ranked[: rules.max_samples]
    return ranked if rules.order == "margin" else np.sort(ranked)


def _fits(row: PairRow, rules: Margin) -> bool:
    wanted = rules.negatives
    return bool(row.negatives) if wanted is None else len(row.negatives) == wanted


def _margins(job: Job[MarginJob], rows: list[PairRow]) -> np.ndarray:
    """Each row's margin by the teacher's vectors, every distinct text encoded once."""
    if not rows:
        return np.empty(0)
    keep = job.settings.instructions
    queries = [row.instruction + row.query if keep else row.query for row in rows]
    texts = [text for row in rows for text in (row.positives[0], *row.negatives)]
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    teacher = teacher_of(job, [*distinct, *dict.fromkeys(queries)])
    passages = vectors_of(job, teacher, "passage", list(distinct))
    of_queries = vectors_of(job, teacher, "query", queries)
    margins = np.empty(len(rows))
    for i, row in enumerate(rows):
        places = [distinct[text] for text in (row.positives[0], *row.negatives)]
        vectors = passages[places].astype(np.float64)
        scores = pair_scores(of_queries[i].astype(np.float64), vectors, "ip", 1.0, np.ones(len(places)))
        margins[i] = scores[0] - scores[1:].max()
    return margins
