"""Raw pairs of one training dataset, from whichever source the study names.

Rows are checked, given their instruction, freed of repetitions and, where there is a limit, chosen
by seed in two passes, so that no more than the chosen rows' numbers are held in memory.
"""

import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.engine.progress import follow
from realign.seeds import derive_seed
from realign.study.data import Dataset, PairColumns, PairsJob
from realign.text.forms import read_rows
from realign.text.pairs import PairRow, parse_pair, text_key, without_duplicates, write_pairs
from realign.text.prompts import instruct
from realign.text.records import read_records
from realign.text.select import in_share
from realign.text.stats import PairStats
from realign.text.streams import LineError, write_json

log = logging.getLogger(__name__)


def run(job: Job[PairsJob]) -> None:
    """Write a dataset's raw pairs and what they amount to."""
    dataset, source = job.settings.dataset, job.input("source")
    stats = PairStats()
    rows = asked_rows(source, dataset, job.settings.seed, stats.dropped)
    rows = without_held_out(rows, dataset.held_out)
    written = write_pairs(job.output("pairs"), stats.watch(follow(rows, "pairs", unit="rows")))
    if not written:
        raise UserError(f"{source}: no usable row is left ({dict(stats.dropped) or 'the source is empty'})")
    for reason, count in stats.dropped.items():
        log.info("dropped %d rows: %s", count, reason)
    write_json(job.output("stats"), stats.dump())


def asked_rows(source: Path, dataset: Dataset, seed: int, dropped: Counter[str]) -> Iterator[PairRow]:
    """The rows of a dataset that a study asks for, those that are held out among them."""
    if dataset.limit is None:
        return usable_rows(source, dataset, dropped)
    return chosen_rows(source, dataset, dataset.limit, seed, dropped)


def is_held_out(passage: str, share: float) -> bool:
    """Whether a passage is among the share that is never trained on; its text alone decides."""
    return in_share(text_key(passage), share)


def without_held_out(rows: Iterable[PairRow], share: float) -> Iterator[PairRow]:
    """The rows to train on: no positive of theirs is held out, and no negative that is stays."""
    for row in rows:
        if not any(is_held_out(passage, share) for passage in row.positives):
            yield row.keeping(lambda text: not is_held_out(text, share))


def usable_rows(source: Path, dataset: Dataset, dropped: Counter[str]) -> Iterator[PairRow]:
    """The rows of a source that can be trained on, with the dataset's instruction."""
    rows = checked_rows(source, dataset, dropped)
    if dataset.instruction:
        rows = (replace(row, instruction=instruct(dataset.instruction)) for row in rows)
    return without_duplicates(rows, dropped) if dataset.duplicates == "drop" else rows


def checked_rows(source: Path, dataset: Dataset, dropped: Counter[str]) -> Iterator[PairRow]:
    """The rows of a source, those that cannot be used refused or counted as the dataset says."""
    columns, longest = dataset.columns, dataset.max_line_mb << 20
    records = read_records(source, _names(columns), longest) if columns else read_rows(source, longest)
    for number, value in records:
        problem = value if isinstance(value, LineError) else None
        if problem is None:
            try:
                yield parse_pair(_as_pair(value, columns) if columns else value)  # type: ignore[arg-type]
                continue
            except ValueError as error:
                problem = LineError(source, number, str(error))
        if dataset.invalid == "error":
            raise problem
        dropped[problem.reason.split(" (")[0]] += 1


def _names(columns: PairColumns) -> list[str]:
    """The columns that are read."""
    return [n for n in (columns.query, columns.positive, columns.negative, columns.instruction) if n]


def _as_pair(row: dict[str, Any], columns: PairColumns) -> dict[str, Any]:
    query = row.get(columns.query)
    if columns.instruction and isinstance(query, str):
        query = [instruct(str(row.get(columns.instruction) or "")), query]
    return {
        "query": query,
        "pos": _listed(row.get(columns.positive)),
        "neg": _listed(row.get(columns.negative)) if columns.negative else [],
    }


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def chosen_rows(
    source: Path, dataset: Dataset, limit: int, seed: int, dropped: Counter[str]
) -> Iterator[PairRow]:
    """At most `limit` rows, each as likely as any other, in the order of the source."""
    rng = Random(derive_seed(seed, "pairs limit"))  # noqa: S311 (no secrets here)
    count = sum(1 for _ in usable_rows(source, dataset, dropped))
    drawn = heapq.nsmallest(limit, ((rng.random(), i) for i in range(count)))
    wanted = {i for _, i in drawn}
    for i, row in enumerate(usable_rows(source, dataset, Counter())):
        if i in wanted:
            yield row
