"""How often mined negatives are answers after all: a judge labels a random sample of them.

The rate is given for the dataset and for groups of equal size by rank and by margin, since what lies
nearest, or above the margin by a hair, is wrong most often. Where labels are known, the judge labels
those too, and its errors are taken out of every rate (`rates`).
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from realign.artifacts.command import Job, UserError
from realign.mining.answers import Label
from realign.mining.judges import Question, judge_of, labels_of, questions_of
from realign.mining.rates import Rate, Reliability, rate
from realign.seeds import derive_seed
from realign.study.judging import AuditJob
from realign.text.pairs import read_pairs
from realign.text.streams import LineError, read_objects, write_json

log = logging.getLogger(__name__)


def run(job: Job[AuditJob]) -> None:
    """Audit one dataset."""
    settings = job.settings
    rows = list(read_pairs(job.input("mined")))
    table = pq.read_table(job.input("margins"))
    if not len(table):
        raise UserError(f"{job.input('margins')}: no mined negative to audit")
    table = table.take(sampled(len(table), settings))
    gold = [known for path in job.inputs_of("gold") for known in read_gold(path)]
    if job.inputs_of("gold") and {truth for _, truth in gold} != {True, False}:
        raise UserError(f"{job.input('gold')}: known labels of both kinds are needed: answers, and others")
    sample = questions_of(rows, zip(table["row"].to_pylist(), table["place"].to_pylist(), strict=True))
    judge = judge_of(job)
    labels = labels_of(job, judge, [*sample, *(question for question, _ in gold)])
    reliability = reliability_of([truth for _, truth in gold], labels[len(sample) :]) if gold else None
    labels = labels[: len(sample)]

    ranks, margins = (table[name].to_numpy() for name in ("rank", "margin"))
    found = list(rates(ranks, margins, labels, settings, reliability))
    if not found:
        raise UserError(f"the judge said neither yes nor no to any of {len(sample)} negatives")
    _write_tidy(job.output("tidy"), settings, found)
    pq.write_table(table.append_column("answers", pa.array(labels, pa.bool_())), job.output("labels"))
    overall = found[0][3]
    report = {
        "dataset": settings.dataset,
        "sampled": len(sample),
        "not_understood": sum(label is None for label in labels),
        "judged": overall.judged,
        "rate": None if np.isnan(overall.value) else overall.value,
        "interval": [overall.low, overall.high],
        "gold": None if reliability is None else vars(reliability),
    }
    write_json(job.output("report"), report)
    job.note(**report)
    log.info(
        "%s: %.1f %% of mined negatives answer their query (%.1f to %.1f; the judge says %.1f)",
        settings.dataset, *(100 * v for v in (overall.value, overall.low, overall.high, overall.judged)),
    )  # fmt: skip
    if reliability is not None and np.isnan(overall.value):
        log.warning("the judge's labels of the known ones are no better than chance, so the rate is open")


def sampled(count: int, settings: AuditJob) -> np.ndarray:
    """The places of a random sample, in order."""
    rng = np.random.default_rng(derive_seed(settings.seed, "audit", settings.dataset))
    return np.sort(rng.permutation(count)[: settings.sample])


def read_gold(path: Path) -> Iterator[tuple[Question, bool]]:
    """Known labels: whether a passage answers a query."""
    for number, value in read_objects(path):
        if isinstance(value, LineError):
            raise value
        query, passage, answers = (value.get(name) for name in ("query", "passage", "answers"))
        if not isinstance(query, str) or not isinstance(passage, str) or not isinstance(answers, bool):
            raise LineError(path, number, "expected query and passage, texts, and answers, true or false")
        yield Question(query, str(value.get("positive", "")), passage), answers


def reliability_of(truths: Sequence[bool], labels: Sequence[Label]) -> Reliability:
    """What a judge says of labels that are known; what it said neither of is left out."""
    said = [(truth, label) for truth, label in zip(truths, labels, strict=True) if label is not None]
    answers = [label for truth, label in said if truth]
    others = [label for truth, label in said if not truth]
    if not answers or not others:
        raise UserError("of the known labels of one kind, the judge said neither yes nor no to any")
    return Reliability(sum(answers), len(answers), len(others) - sum(others), len(others))


def rates(
    ranks: np.ndarray,
    margins: np.ndarray,
    labels: Sequence[Label],
    settings: AuditJob,
    reliability: Reliability | None,
) -> Iterator[tuple[str, float, float, Rate]]:
    """(by what, least, greatest, rate): of all first, then of groups by rank and by margin."""
    clear = np.array([label is not None for label in labels], bool)
    called = np.array([bool(label) for label in labels])[clear]
    if not len(called):
        return
    yield "all", np.nan, np.nan, rate(int(called.sum()), len(called), settings.level, reliability)
    for by, values in (("rank", ranks[clear]), ("margin", margins[clear].astype(np.float64))):
        for some in _groups(values, settings.groups):
            bounds = float(values[some].min()), float(values[some].max())
            yield by, *bounds, rate(int(called[some].sum()), len(some), settings.level, reliability)


def _groups(values: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Places in groups of about equal size from low to high; equal values stay together."""
    borders = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1], method="lower"))
    group = np.searchsorted(borders, values, side="left")
    for number in np.unique(group):
        yield np.flatnonzero(group == number)


def _write_tidy(path: Path, settings: AuditJob, found: Sequence[tuple[str, float, float, Rate]]) -> None:
    rows = [
        {
            "study": settings.study,
            "dataset": settings.dataset,
            "judge": _named(settings),
            "by": by,
            "least": least,
            "greatest": greatest,
            "value": one.value,
            "ci_low": one.low,
            "ci_high": one.high,
            "judged": one.judged,
            "n": float(one.count),
        }
        for by, least, greatest, one in found
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def _named(settings: AuditJob) -> str:
    judge = settings.judge
    return judge.chat.model if judge.chat else "rules" if judge.rules else "cross-encoder"
