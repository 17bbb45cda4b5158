"""A retrieval task from a dataset's held-out rows: its queries ask, its passages answer.

No passage of it is trained on, so an embedder that learned from the rest of the dataset is judged on
texts of the same kind that it never saw.
"""

from collections import Counter

from realign.artifacts.command import Job, UserError
from realign.study.data import PairsJob
from realign.text.datasets import asked_rows, is_held_out
from realign.text.pairs import text_key
from realign.text.streams import write_json, write_objects

LEAST = 2


def run(job: Job[PairsJob]) -> None:
    """Write corpus, queries and which passage answers which query."""
    dataset, folder, source = job.settings.dataset, job.output("task"), job.input("source")
    passages: dict[bytes, str] = {}
    queries: list[str] = []
    answers: list[tuple[int, bytes]] = []
    for row in asked_rows(source, dataset, job.settings.seed, Counter()):
        if all(is_held_out(passage, dataset.held_out) for passage in row.positives):
            for passage in row.positives:
                passages.setdefault(text_key(passage), passage)
            answers += [(len(queries), key) for key in dict.fromkeys(map(text_key, row.positives))]
            queries.append(row.query)
    if len(passages) < LEAST:
        raise UserError(
            f"{source}: {len(passages)} passages are held out at held_out: {dataset.held_out}; raise it"
        )
    names = {key: f"p{i:06d}" for i, key in enumerate(passages)}
    folder.mkdir(parents=True)
    write_objects(folder / "corpus.jsonl", ({"id": names[k], "text": text} for k, text in passages.items()))
    write_objects(folder / "queries.jsonl", ({"id": f"q{i:06d}", "text": q} for i, q in enumerate(queries)))
    write_objects(
        folder / "qrels.jsonl",
        ({"query": f"q{i:06d}", "doc": names[key], "score": 1} for i, key in answers),
    )
    about = {"kind": "retrieval", "instruction": dataset.instruction, "held_out": dataset.held_out}
    write_json(folder / "task.json", {**about, "items": {"corpus": len(passages), "queries": len(queries)}})
