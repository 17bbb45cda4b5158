"""The scores that a teacher gives the texts of mined rows, kept beside them for distillation."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from realign.artifacts.command import Job
from realign.mining.pool import CrossEncoder
from realign.mining.teachers import Teacher
from realign.mining.teaching import vectors_of
from realign.study.mining import MineJob
from realign.text.pairs import PairRow
from realign.vectors.exact import pair_scores


def with_scores(
    job: Job[MineJob], rows: Iterable[PairRow], teacher: Teacher, cross_encoder: CrossEncoder | None
) -> Iterator[PairRow]:
    """The rows with a score for each positive and negative: the cross-encoder's where there is one."""
    rows = list(rows)
    asked = [row.instruction + row.query if job.settings.instructions else row.query for row in rows]
    if cross_encoder is not None:
        for row, query in zip(rows, asked, strict=True):
            pairs = [(query, text) for text in (*row.positives, *row.negatives)]
            yield _scored(row, np.asarray(cross_encoder.predict(pairs, show_progress_bar=False)).reshape(-1))
        return
    texts = {text: None for row in rows for text in (*row.positives, *row.negatives)}
    place = {text: number for number, text in enumerate(texts)}
    queries = {query: number for number, query in enumerate(dict.fromkeys(asked))}
    of_texts = vectors_of(job, teacher, "passage", list(place))
    of_queries = vectors_of(job, teacher, "query", list(queries))
    for row, query in zip(rows, asked, strict=True):
        vectors = of_texts[[place[text] for text in (*row.positives, *row.negatives)]].astype(np.float64)
        own = of_queries[queries[query]].astype(np.float64)
        yield _scored(row, pair_scores(own, vectors, "ip", 1.0, np.ones(len(vectors))))


def _scored(row: PairRow, scores: np.ndarray) -> PairRow:
    given, count = tuple(scores.astype(np.float64).tolist()), len(row.positives)
    return replace(row, positive_scores=given[:count], negative_scores=given[count:])
