"""Evaluation sets from documented code that no training text comes from.

Each is small, is made of real text, and says in its `task.json` how it was made. What counts as
right follows from the documentation itself: which description belongs to which summary, which
entries link to each other under See Also, which module an entry is filed in.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.study.text import TASKS, CorporaJob
from realign.text.docstrings import Entry
from realign.text.pairs import text_key
from realign.text.select import cut, deal, first_of_each, shuffled
from realign.text.shapes import INSTRUCTIONS, MAKERS, has_summary
from realign.text.streams import write_json, write_objects

Row = dict[str, Any]
Files = dict[str, list[Row]]

# A graded similarity of two summaries or descriptions, from how their entries are related.
SIMILARITY = {
    4: "summary and description of one entry",
    3: "summaries of two entries, one of which names the other under See Also",
    2: "summaries of two entries of one module, not linked",
    1: "summaries of two entries of one package, of different topics",
    0: "summaries of two entries of different packages",
}

ABOUT = {
    "DocsRetrieval": "The summary of a documented function asks for the rest of its description.",
    "CodeRetrieval": "The description of a documented function asks for its code.",
    "DocsSTS": "Graded pairs: " + "; ".join(f"{k} = {v}" for k, v in SIMILARITY.items()) + ".",
    "DocsPairClassification": "Does this description belong to this summary? If not, it is of its topic.",
    "TopicClassification": "Which topic (part of its package) is this documentation filed under?",
    "TopicClustering": "Summaries to be grouped by topic (part of their package).",
    "DocsReranking": "The description that belongs to a summary among nine others of the same package.",
}
TASK_INSTRUCTIONS = {
    "DocsRetrieval": INSTRUCTIONS["summary-description"],
    "CodeRetrieval": INSTRUCTIONS["description-code"],
    "DocsSTS": "Find text that says the same",
    "DocsPairClassification": "Find text about the same function",
    "TopicClassification": "Find the topic",
    "TopicClustering": "Find the topic",
    "DocsReranking": INSTRUCTIONS["summary-description"],
}


def write_task(folder: Path, name: str, files: Files) -> dict[str, Any]:
    """Write an evaluation set's files and its `task.json`; returns what that says."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, rows in files.items():
        write_objects(folder / f"{file}.jsonl", rows)
    about = {
        "name": name,
        "kind": TASKS[name],
        "instruction": TASK_INSTRUCTIONS[name],
        "about": ABOUT[name],
        "items": {file: len(rows) for file, rows in files.items()},
    }
    write_json(folder / "task.json", about)
    return about


def make_tasks(entries: Sequence[Entry], job: CorporaJob) -> Iterator[tuple[str, Files]]:
    """Every evaluation set by name, from the entries of the held-out packages."""
    told = [e for e in entries if has_summary(e)]
    makers: dict[str, Callable[[], Files]] = {
        "DocsRetrieval": lambda: retrieval("summary-description", entries, job),
        "CodeRetrieval": lambda: retrieval("description-code", entries, job),
        "DocsSTS": lambda: similarity(told, job),
        "DocsPairClassification": lambda: same_or_not(told, job),
        "TopicClassification": lambda: classification(told, job),
        "TopicClustering": lambda: clustering(told, job),
        "DocsReranking": lambda: reranking(told, job),
    }
    for name, make in makers.items():
        yield name, make()


def enough(items: Sequence[Any], count: int, what: str, key: str) -> None:
    """Refuse to make a set smaller than was asked for."""
    if len(items) < count:
        raise UserError(
            f"the held-out packages give {len(items)} {what}, and text.{key} asks for {count}; "
            f"lower it or name more packages in text.heldout_packages"
        )


def retrieval(shape: str, entries: Sequence[Entry], job: CorporaJob) -> Files:
    """A corpus of answers, some of which are asked for."""
    made = [(e, pair) for e in entries if (pair := MAKERS[shape](e, job.max_characters))]
    distinct = first_of_each(made, lambda x: text_key(x[1][0]), lambda x: text_key(x[1][1]))
    enough(distinct, job.corpus, f"passages ({shape})", "corpus")
    mixed = shuffled(distinct, lambda x: x[0].id, job.seed, "retrieval", shape)
    chosen = deal(mixed, lambda x: x[0].package, job.corpus)
    asked = chosen[: job.queries]
    return {
        "corpus": sorted(({"id": e.id, "text": answer} for e, (_, answer) in chosen), key=lambda r: r["id"]),
        "queries": [{"id": f"q:{e.id}", "text": query} for e, (query, _) in asked],
        "qrels": [{"query": f"q:{e.id}", "doc": e.id, "score": 1} for e, _ in asked],
    }


def linked(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of entries of which one names the other under See Also, where the name is unambiguous."""
    by_name: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_name.setdefault((entry.package, entry.id.rsplit(".", 1)[-1]), []).append(entry)
    for entry in entries:
        for name in entry.see_also:
            called = by_name.get((entry.package, name.rsplit(".", 1)[-1]), [])
            near = [e for e in called if e.module == entry.module] or called
            if len(near) == 1 and near[0].id != entry.id and near[0].summary != entry.summary:
                yield entry, near[0]


def similarity(entries: Sequence[Entry], job: CorporaJob) -> Files:
    """Pairs of five grades, equally many of each."""
    each = job.items // len(SIMILARITY)
    links = {frozenset((a.id, b.id)) for a, b in linked(entries)}

    def mixed(grade: int) -> list[Entry]:
        return shuffled(entries, lambda e: e.id, job.seed, "sts", grade)

    def unlinked(a: Entry, b: Entry) -> bool:
        return a.module == b.module and frozenset((a.id, b.id)) not in links

    own = (e for e in mixed(4) if len(e.description) >= 60)
    graded: dict[int, Iterator[tuple[str, str]]] = {
        4: ((e.summary, cut(e.description.split("\n\n")[0], 300)) for e in own),
        3: ((a.summary, b.summary) for a, b in linked(mixed(3))),
        2: _partners(mixed(2), unlinked),
        1: _partners(mixed(1), lambda a, b: a.package == b.package and a.topic != b.topic),
        0: _partners(mixed(0), lambda a, b: a.package != b.package),
    }
    rows: list[Row] = []
    for grade, pairs in graded.items():
        found = first_of_each(pairs, lambda p: text_key(*sorted(p)))
        enough(found, each, f"pairs of grade {grade}", "items")
        rows += [{"sentence1": a, "sentence2": b, "score": grade} for a, b in found[:each]]
    return {"test": shuffled(rows, lambda r: r["sentence1"] + r["sentence2"], job.seed, "sts order")}


def _partners(entries: Sequence[Entry], fits: Callable[[Entry, Entry], bool]) -> Iterator[tuple[str, str]]:
    """Summaries of entries that fit each other, each entry at most once."""
    waiting = list(entries)
    while waiting:
        left = waiting.pop()
        for i in range(len(waiting) - 1, -1, -1):
            if waiting[i].summary != left.summary and fits(left, waiting[i]):
                yield left.summary, waiting.pop(i).summary
                break


def described(entries: Sequence[Entry], *purpose: object, seed: int) -> list[Entry]:
    """Entries with a description of their own, in a random order."""
    usable = [e for e in entries if len(e.description) >= 80]
    distinct = first_of_each(usable, lambda e: text_key(e.summary), lambda e: text_key(e.description))
    return shuffled(distinct, lambda e: e.id, seed, *purpose)


def same_or_not(entries: Sequence[Entry], job: CorporaJob) -> Files:
    """Summaries with their own description, or with one of the same topic."""
    mixed = described(entries, "pair classification", seed=job.seed)
    enough(mixed, job.items, "descriptions", "items")
    filed: dict[str, list[Entry]] = {}
    for entry in mixed:
        filed.setdefault(entry.topic, []).append(entry)
    rows = []
    for i, entry in enumerate(mixed[: job.items]):
        others = filed[entry.topic] if len(filed[entry.topic]) > 1 else mixed
        other = others[(others.index(entry) + 1) % len(others)]
        label = i % 2
        text = cut((entry if label else other).description, 400)
        rows.append({"sentence1": entry.summary, "sentence2": text, "label": label})
    return {"test": rows}


def topics(entries: Sequence[Entry], count: int) -> list[str]:
    """The topics with the most entries; a package's own name is none."""
    counts = Counter(e.topic for e in entries if e.topic != e.module.split(".")[0])
    return [topic for topic, _ in sorted(counts.items(), key=lambda x: (-x[1], x[0]))[:count]]


def by_topic(entries: Sequence[Entry], job: CorporaJob, purpose: str) -> list[Entry]:
    """The entries of the largest topics, the topics taking turns."""
    wanted = set(topics(entries, job.topics))
    distinct = first_of_each((e for e in entries if e.topic in wanted), lambda e: text_key(e.summary))
    mixed = shuffled(distinct, lambda e: e.id, job.seed, purpose)
    return deal(mixed, lambda e: e.topic, len(mixed))


def classification(entries: Sequence[Entry], job: CorporaJob) -> Files:
    """Documentation with its topic; half to learn from, half to judge by."""
    chosen = by_topic(entries, job, "classification")[: job.items]
    enough(chosen, job.items, f"entries of the {job.topics} largest topics", "items")
    rows = [{"text": cut(e.text, 400), "label": e.topic} for e in chosen]
    # topics alternate, so a split by halves keeps them balanced in both
    return {"train": rows[: len(rows) // 2], "test": rows[len(rows) // 2 :]}


def clustering(entries: Sequence[Entry], job: CorporaJob) -> Files:
    """Summaries with their topic."""
    chosen = by_topic(entries, job, "clustering")[: job.items]
    enough(chosen, job.items, f"entries of the {job.topics} largest topics", "items")
    return {"test": [{"text": e.summary, "label": e.topic} for e in chosen]}


def reranking(entries: Sequence[Entry], job: CorporaJob, others: int = 9) -> Files:
    """A summary, its description, and descriptions of other entries of the package, near ones first."""
    mixed = described(entries, "reranking", seed=job.seed)
    queries = job.items // 2
    enough(mixed, queries, "descriptions", "items (half of it, for reranking)")
    rows = []
    for i, entry in enumerate(mixed[:queries]):
        rest = mixed[i + 1 :] + mixed[:i]
        near = [e for e in rest if e.package == entry.package and e.topic == entry.topic]
        far = [e for e in rest if e.package == entry.package and e.topic != entry.topic]
        rows.append(
            {
                "query": entry.summary,
                "positive": [cut(entry.description, 600)],
                "negative": [cut(e.description, 600) for e in [*near, *far][:others]],
            }
        )
    return {"test": rows}
