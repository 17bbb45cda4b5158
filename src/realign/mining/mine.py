"""Mining hard negatives for one dataset: from raw pairs and a teacher to pairs with negatives.

Vectors come from the teacher's cache, pools of nearest passages from the exact search, each
candidate's fate from the filters. Every step leaves whole shards behind, so a killed job goes on
where it was and ends with the same bytes.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from realign.artifacts.command import Job, UserError
from realign.mining.approximate import ApproximateFinder
from realign.mining.collection import Collection, collect, read_corpus
from realign.mining.deeper import Deeper
from realign.mining.filters import REASONS, Candidates, Window, window_of
from realign.mining.judging import Blank, Picked, judge_pool
from realign.mining.pool import CrossEncoder, ExactFinder, Finder, Pool, find_pools
from realign.mining.scoring import with_scores
from realign.mining.tally import Tally
from realign.mining.teaching import teacher_of, vectors_of
from realign.seeds import derive_seed
from realign.study.mining import MineJob
from realign.text.pairs import PairRow, read_pairs, write_pairs
from realign.text.streams import write_json

log = logging.getLogger(__name__)

CANDIDATES = pa.schema(
    [
        ("row", pa.int32()),  # of the pairs that were left after repetitions were dropped
        ("rank", pa.int32()),  # among the pool, from 0
        ("passage", pa.int32()),  # by first occurrence: the given corpus first, then the positives
        ("score", pa.float32()),
        ("positive_score", pa.float32()),  # the least of the query's positives
        ("reason", pa.dictionary(pa.int8(), pa.string())),
    ]
)
NEGATIVES = pa.schema(
    [
        ("row", pa.int32()),  # of the pairs that are written, from 0
        ("place", pa.int32()),  # among the row's negatives, from 0
        ("rank", pa.int32()),  # as in CANDIDATES
        ("score", pa.float32()),
        ("margin", pa.float32()),  # the least score of the query's positives, less its own
    ]
)


def run(job: Job[MineJob]) -> None:
    """Mine one dataset."""
    settings = job.settings
    dropped: Counter[str] = Counter()
    collection = _read(job, dropped)
    cross_encoder = _cross_encoder(job)
    window = window_of(settings, len(collection.rows), collection.most_positives, cross_encoder is not None)
    if collection.searched is not None and not len(collection.searched):
        raise UserError("the corpus holds no passage to take negatives from")
    teacher = teacher_of(job, [*collection.passages, *collection.queries])
    queries = vectors_of(job, teacher, "query", collection.queries)
    passages = vectors_of(job, teacher, "passage", collection.passages)

    blank = Blank.among(queries, passages)
    finder, recall = _finder(settings, passages, queries, window.pool, collection.searched)

    deeper = None
    if settings.range_counts == "eligible" and isinstance(finder, ExactFinder) and cross_encoder is None:
        deeper = Deeper(collection, finder, blank, settings, window.range_max)

    def pools() -> Iterator[Pool]:  # found once, read again from their shards
        return find_pools(collection, queries, passages, finder, job.scratch / "pools", cross_encoder, deeper)

    tally = Tally(*_span(pools()))
    chosen = _judge_all(job, collection, pools(), blank, window, tally)
    shown: list[tuple[int, int, int]] = []
    mined: Iterable[PairRow] = _mined(collection, chosen, settings, tally, shown)
    if settings.scores:
        mined = with_scores(job, mined, teacher, cross_encoder)
    write_pairs(job.output("pairs"), mined)
    _write_negatives(job.output("margins"), chosen, shown)

    facts = {
        "dataset": settings.dataset,
        "teacher": teacher.identity("query") | {"code": None},
        "queries": len(collection.queries),
        "passages": len(collection.passages),
        "range_max": window.range_max,
        "pool": window.pool,
        "recall": recall,
        "without_vector": {"queries": int(blank.queries.sum()), "passages": int(blank.passages.sum())},
        "input": {"rows_left_out": dict(sorted(dropped.items())), "negatives_merged": collection.merged},
    }
    report = tally.report(facts)
    write_json(job.output("report"), report)
    _write_tidy(job.output("tidy"), settings, tally)
    _tell(report)
    if not tally.rows["out"]:
        reasons = ", ".join(f"{name} {count}" for name, count in report["candidates"].items())
        raise UserError(
            f"{job.input('raw')}: no row is left, since none of {tally.rows['in']} found the "
            f"{settings.negatives} negatives that it wants (candidates: {reasons}); loosen the filters, or "
            "set `too_few: keep`, which keeps rows with fewer and publishes every candidate with its reason"
        )
    job.note(rows=dict(tally.rows), candidates=dict(tally.reasons))


def _read(job: Job[MineJob], dropped: Counter[str]) -> Collection:
    settings = job.settings
    corpora = job.inputs_of("corpus")
    if bool(corpora) == (settings.passages == "positives"):
        raise UserError(
            "a corpus goes with `passages: corpus` or `both`, and only with these "
            f"(passages is {settings.passages}, corpus is {corpora[0] if corpora else 'not given'})"
        )
    rows = read_pairs(job.input("raw"), settings.invalid, dropped)
    try:
        return collect(
            rows,
            (text for path in corpora for text in read_corpus(path)),
            settings.equality == "exact",
            settings.instructions,
            settings.passages == "corpus",
            dropped,
        )
    except UserError as error:
        raise UserError(f"{job.input('raw')}: {error}") from None


def _cross_encoder(job: Job[MineJob]) -> CrossEncoder | None:
    folders = job.inputs_of("cross_encoder")
    if not folders:
        return None
    from sentence_transformers import CrossEncoder as Loaded

    return Loaded(str(folders[0]), trust_remote_code=False, local_files_only=True)


def _finder(
    settings: MineJob, passages: np.ndarray, queries: np.ndarray, width: int, searched: np.ndarray | None
) -> tuple[Finder, float | None]:
    """How to search, and the measured recall where the search is not exact."""
    count = len(passages) if searched is None else len(searched)
    approximate = settings.approximate
    if approximate is None or count <= approximate.above:
        return ExactFinder(passages, width, searched), None
    finder = ApproximateFinder(passages, width, searched, approximate, derive_seed(settings.seed, "index"))
    return finder, finder.check_recall(queries)


def _span(pools: Iterator[Pool]) -> tuple[float, float]:
    """The least and the greatest score, of cosines at least."""
    low, high = -1.0, 1.0
    for pool in pools:
        for scores in (pool.scores[pool.passages >= 0], pool.positives):
            low = min(low, float(scores.min(initial=low)))
            high = max(high, float(scores.max(initial=high)))
    return low, high


def _judge_all(
    job: Job[MineJob],
    collection: Collection,
    pools: Iterable[Pool],
    blank: Blank,
    window: Window,
    tally: Tally,
) -> Picked:
    """Judge every candidate of every row; returns each row's mined passages, nearest first."""
    chosen: list[Picked] = []
    # Of scores and numbers there are too many different ones for a dictionary.
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["row", "reason"]}
    with pq.ParquetWriter(job.output("candidates"), CANDIDATES, **options) as writer:
        for pool in pools:
            tally.positive(pool.positives)
            rows, block, codes = judge_pool(collection, pool, blank, job.settings, window.range_max)
            tally.candidates(block.scores, codes, block.least_positive)
            _note(writer, rows, block, codes)
            chosen.append(Picked.of(rows, block, codes))
    return Picked.join(chosen)


def _note(writer: pq.ParquetWriter, rows: np.ndarray, block: Candidates, codes: np.ndarray) -> None:
    """Write the candidates of a block, a row of the table each."""
    real = block.passages >= 0
    row, rank = np.nonzero(real)
    reasons = pa.DictionaryArray.from_arrays(pa.array(codes[real], pa.int8()), pa.array(REASONS))
    columns = [
        pa.array(rows[row], pa.int32()),
        pa.array(rank, pa.int32()),
        pa.array(block.passages[real], pa.int32()),
        pa.array(block.scores[real], pa.float32()),
        pa.array(block.least_positive[row], pa.float32()),
        reasons,
    ]
    writer.write_table(pa.Table.from_arrays(columns, schema=CANDIDATES))


def _mined(
    collection: Collection,
    chosen: Picked,
    settings: MineJob,
    tally: Tally,
    shown: list[tuple[int, int, int]],
) -> Iterator[PairRow]:
    """The rows with their negatives, in their order; what becomes of short rows is counted.

    `shown` gets what is written of `chosen`: from where to where, and after how many of the row's own.
    """
    tally.rows.update({"in": len(collection.rows), "out": 0})
    taken = chosen.passages.tolist()
    ends = np.searchsorted(chosen.rows, np.arange(len(collection.rows) + 1)).tolist()
    for number, row in enumerate(collection.rows):
        first, last = ends[number], ends[number + 1]
        mined = tuple(collection.passages[p] for p in taken[first:last])
        short = len(row.negatives) + len(mined) < settings.negatives
        if not short:
            tally.rows["complete"] += 1
        elif settings.too_few == "drop" or (settings.too_few == "existing" and not row.negatives):
            tally.rows["dropped"] += 1
            continue
        elif settings.too_few == "existing":
            mined, last = (), first
            tally.rows["existing_only"] += 1
        else:
            tally.rows["without" if not row.negatives and not mined else "with_fewer"] += 1
        tally.rows["out"] += 1
        shown.append((first, last, len(row.negatives)))
        # Scores that the row came with are another teacher's, and the new negatives have none of them.
        unscored = replace(row, positive_scores=(), negative_scores=()) if mined else row
        yield replace(unscored, negatives=(*row.negatives, *mined))


def _write_negatives(path: Path, chosen: Picked, shown: list[tuple[int, int, int]]) -> None:
    """Write where each mined negative stands in the pairs, and how near it is."""
    first, last, own = np.array(shown, np.int64).reshape(-1, 3).T
    counts = last - first
    row = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    at = first[row] + within
    columns = [row, own[row] + within, chosen.ranks[at], chosen.scores[at], chosen.margins[at]]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, NEGATIVES, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=NEGATIVES), path, compression="zstd")


def _write_tidy(path: Path, settings: MineJob, tally: Tally) -> None:
    names, values = zip(*tally.statistics(), strict=True)
    table = pa.table(
        {
            "study": [settings.study] * len(names),
            "dataset": [settings.dataset] * len(names),
            "statistic": list(names),
            "value": pa.array(values, pa.float64()),
        }
    )
    pq.write_table(table, path)


def _tell(report: dict[str, Any]) -> None:
    """Say in the log what a user should see without opening a file."""
    rows, scores = report["rows"], report["scores"]
    log.info("%s: %d of %d rows have negatives", report["dataset"], rows["out"], rows["in"])
    for name in ("dropped", "existing_only", "with_fewer", "without"):
        if rows.get(name):
            log.warning("%s: %d rows %s", report["dataset"], rows[name], name.replace("_", " "))
    for name, count in report["without_vector"].items():
        if count:
            log.warning("%s: %d %s have a vector of zeros", report["dataset"], count, name)
    for name, values in scores.items():
        if values["count"]:
            log.info("%s scores: mean %.4f, median %.4f", name, values["mean"], values["p50"])
    log.info("candidates: %s", ", ".join(f"{k} {v}" for k, v in report["candidates"].items()))
