"""Probe corpora: the texts whose hidden states are compared, chosen by seed, labels in equal parts."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.study.text import ProbeCorpus, ProbeJob
from realign.text.pairs import text_key
from realign.text.records import read_records
from realign.text.select import deal, first_of_each, shuffled
from realign.text.stats import text_stats
from realign.text.streams import LineError, write_json, write_objects

log = logging.getLogger(__name__)


def run(job: Job[ProbeJob]) -> None:
    """Write a probe corpus and what it amounts to."""
    corpus, source = job.settings.corpus, job.input("source")
    rows = first_of_each(usable_texts(source, corpus), lambda row: text_key(row["text"]))
    if len(rows) < 2:
        raise UserError(f"{source}: {len(rows)} usable texts for a probe corpus; two at least are needed")
    mixed = shuffled(rows, lambda row: row["id"], job.settings.seed, "probe", source.name)
    chosen = deal(mixed, lambda row: str(row.get("label", "")), corpus.limit)
    if len(chosen) < corpus.limit:
        log.warning("%s: %d texts, and the limit is %d", source, len(chosen), corpus.limit)
    write_objects(job.output("texts"), chosen)
    write_json(job.output("stats"), {"available": len(rows), **text_stats(chosen)})


def usable_texts(source: Path, corpus: ProbeCorpus) -> Iterator[dict[str, Any]]:
    """The rows of a source that fit, as `{"id", "text", "label"?}`."""
    label = "label" if corpus.embedded else corpus.label
    columns = None if corpus.embedded else [corpus.text, *([label] if label else []), *corpus.where]
    for number, row in read_records(source, columns):
        if isinstance(row, LineError):
            raise row
        if any(row.get(key) != value for key, value in corpus.where.items()):
            continue
        text = row.get(corpus.text)
        if not isinstance(text, str) or not text.strip():
            raise LineError(source, number, f"'{corpus.text}' is missing, empty or no text")
        if not corpus.min_characters <= len(text) <= (corpus.max_characters or len(text)):
            continue
        kept = {"id": str(row.get("id", f"{number:06d}")), "text": text}
        if label:
            if row.get(label) is None:
                raise LineError(source, number, f"the label '{label}' is missing")
            kept["label"] = str(row[label])
        yield kept
