"""The embedded corpora: real text that lies on every machine where the project is installed.

The docstrings and the source of the locked packages become a pretraining corpus, training pairs,
evaluation sets and probe texts. Some packages are held out: whatever training text repeats a run
of words from them is left out, so that the evaluation sets measure something.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.engine.progress import follow
from realign.study.text import SHAPES, CorporaJob, output_of
from realign.text.docstrings import Entry, read_entries
from realign.text.overlap import Overlap
from realign.text.pairs import text_key, write_pairs
from realign.text.select import cut, deal, first_of_each, shuffled
from realign.text.shapes import has_summary, pairs_of
from realign.text.sources import read_sources
from realign.text.stats import PairStats, text_stats
from realign.text.streams import write_json, write_objects
from realign.text.tasks import by_topic, make_tasks, write_task

log = logging.getLogger(__name__)

SHORTEST_PAGE = 80
PROBE_CHARACTERS = 380
PROBE_POOL = 600


def run(job: Job[CorporaJob]) -> None:
    """Make everything that the command declares."""
    settings = job.settings
    heldout = read_packages(settings.heldout_packages)
    dropped: Counter[str] = Counter()
    training = without_overlap(read_packages(settings.train_packages), heldout, dropped)
    stats: dict[str, Any] = {
        "packages": {"train": settings.train_packages, "heldout": settings.heldout_packages},
        "entries": {"train": len(training), "heldout": len(heldout)},
        "left_out_for_overlap": dict(sorted(dropped.items())),
    }
    rows = pretraining_texts(training, settings)
    write_objects(job.output("pretrain"), rows)
    stats["pretrain"] = text_stats(rows)
    for shape in SHAPES:
        counted = PairStats()
        made = pairs_of(shape, training, settings.pairs, settings.max_characters, settings.seed)
        write_pairs(job.output(output_of(shape)), counted.watch(made))
        stats[shape] = counted.dump()
    for name, files in make_tasks(heldout, settings):
        stats[name] = write_task(job.output(name), name, files)["items"]
    docs = probe_texts(heldout, settings)
    write_objects(job.output("docs"), docs)
    stats["docs"] = text_stats(docs)
    write_json(job.output("stats"), stats)
    job.note(
        origin="docstrings and source of installed packages",
        packages=settings.train_packages | settings.heldout_packages,
        licences={p: licence_of(p) for p in settings.train_packages | settings.heldout_packages},
    )


def licence_of(package: str) -> str:
    """The licence that an installed package declares; each text keeps its own."""
    about = metadata.metadata(package)
    named = [c.rsplit(" :: ", 1)[-1] for c in about.get_all("Classifier", []) if c.startswith("License ::")]
    for field in ("License-Expression", "License"):
        if field in about and not (field == "License" and named):
            return about[field].splitlines()[0]
    return ", ".join(named) or "not stated"


def read_packages(versions: Mapping[str, str]) -> list[Entry]:
    """The documented entries of installed packages; each text once."""
    entries = [
        entry
        for package, version in sorted(versions.items())
        for source in follow(read_sources(package, version), f"reading {package}", unit="modules")
        for entry in read_entries(source)
        if entry.summary
    ]
    return first_of_each(entries, lambda e: e.id.encode(), lambda e: text_key(e.text, e.code))


def without_overlap(
    training: Sequence[Entry], heldout: Sequence[Entry], dropped: Counter[str]
) -> list[Entry]:
    """The training entries that repeat nothing of the held-out ones; parameters go singly."""
    overlap = Overlap(text for entry in heldout for text in all_texts(entry))
    kept = []
    for entry in follow(training, "comparing with held-out text", unit="entries"):
        if any(overlap.repeats(text) for text in (entry.text, entry.code, entry.example)):
            dropped[entry.package] += 1
            continue
        parameters = tuple(p for p in entry.parameters if not overlap.repeats(p.text))
        kept.append(replace(entry, parameters=parameters))
    return kept


def all_texts(entry: Entry) -> Iterator[str]:
    """Every text of an entry that could end up in a corpus."""
    yield from (entry.text, entry.code, entry.example)
    yield from (p.text for p in entry.parameters)


def prose(entry: Entry) -> str:
    """An entry's documentation as a page to read: summary, description, what the parameters mean."""
    meanings = "\n".join(f"{p.name}: {p.text}" for p in entry.parameters)
    return "\n\n".join(x for x in (entry.text, meanings) if x)


def pretraining_texts(entries: Sequence[Entry], settings: CorporaJob) -> list[dict[str, Any]]:
    """Prose and code up to the size that was asked for, packages taking turns."""
    wanted = settings.pretrain_mb * 1e6
    code_share = settings.pretrain_code_share
    pages = [(f"{e.id}:doc", prose(e), e.package) for e in entries if has_summary(e)]
    pages = [page for page in pages if len(page[1]) >= SHORTEST_PAGE]
    codes = [(f"{e.id}:code", e.code, e.package) for e in entries if 3 <= e.code.count("\n") < 80]
    rows = [
        *_up_to(pages, wanted * (1 - code_share), settings.seed, "pages"),
        *_up_to(codes, wanted * code_share, settings.seed, "code"),
    ]
    made = sum(len(row["text"].encode()) for row in rows)
    if made < 0.98 * wanted:
        raise UserError(
            f"the training packages give {made / 1e6:.2f} MB of text, and text.pretrain_mb asks for "
            f"{settings.pretrain_mb}; lower it or name more packages in text.train_packages"
        )
    return shuffled(rows, lambda row: row["id"], settings.seed, "pretrain order")


def _up_to(texts: Sequence[tuple[str, str, str]], size: float, seed: int, kind: str) -> list[dict[str, Any]]:
    distinct = first_of_each(texts, lambda x: text_key(x[1]))
    mixed = shuffled(distinct, lambda x: x[0], seed, "pretrain", kind)
    rows: list[dict[str, Any]] = []
    for name, text, _ in deal(mixed, lambda x: x[2], len(mixed)):
        if size <= 0:
            break
        rows.append({"id": name, "text": text})
        size -= len(text.encode())
    return rows


def probe_texts(entries: Sequence[Entry], settings: CorporaJob) -> list[dict[str, Any]]:
    """Documentation of the largest held-out topics, with its topic, equally much of each."""
    long = [e for e in entries if has_summary(e) and len(e.text) >= 150]
    chosen = by_topic(long, settings, "probe docs")[:PROBE_POOL]
    return [{"id": e.id, "text": cut(e.text, PROBE_CHARACTERS), "label": e.topic} for e in chosen]
