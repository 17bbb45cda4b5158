"""What planned jobs would ask of a chat endpoint: about so many calls, and so many tokens."""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from realign.runs.dag import PlannedJob
from realign.study.study import Study

HEAD = "Calls to {model} at {url} (about: answers may be kept, unclear ones are asked for once more)"
CHARACTERS_PER_TOKEN = 4
PROMPT_TOKENS = 120  # the judge's own words, about
LOOKED_AT = 1000  # rows whose lengths stand for those of all


def call_lines(study: Study, jobs: Iterable[PlannedJob]) -> list[str]:
    """A line for each audit and relabelling that asks a chat endpoint, and their sum."""
    chat = study.mining.judge.chat
    named = [(job.rule, job.wildcards["dataset"]) for job in jobs if job.rule in ("audit", "relabel")]
    if chat is None or not named:
        return []
    lines, calls, tokens = [HEAD.format(model=chat.model, url=chat.url)], 0, 0
    for rule, dataset in sorted(named):
        negatives, characters = _negatives(study, dataset)
        if negatives is None:
            lines.append(f"  {rule} {dataset}: known once its pairs are there")
            continue
        asked = _asked(study, rule, negatives)
        spent = asked * (PROMPT_TOKENS + characters / CHARACTERS_PER_TOKEN)
        lines.append(f"  {rule} {dataset}: {asked:,} calls, about {spent:,.0f} tokens read")
        calls, tokens = calls + asked, tokens + round(spent)
    if len(named) > 1:
        lines.append(f"  all: {calls:,} calls, about {tokens:,} tokens read")
    return lines


def _asked(study: Study, rule: str, negatives: int) -> int:
    audit, relabel = study.mining.audit, study.mining.relabel
    if rule == "audit":
        gold = Path(audit.gold) if audit.gold else None
        known = _lines(gold) if gold is not None and gold.is_file() else 0
        return min(audit.sample, negatives) + known
    return negatives if relabel.judged == "all" else round(relabel.share * negatives)


def _negatives(study: Study, dataset: str) -> tuple[int | None, float]:
    """The negatives of a dataset, mined or to be mined, and the characters of a question about one."""
    results = Path("results") / study.study.name
    mined, raw = results / "mined" / dataset / "pairs.jsonl", results / "text/pairs" / f"{dataset}.jsonl"
    path = mined if mined.is_file() else raw
    if not path.is_file():
        return None, 0.0
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in islice(stream, LOOKED_AT)]
    if not rows:
        return 0, 0.0
    own = sum(len(row.get("neg") or ()) for row in rows) / len(rows)
    each = own if path is mined else max(own, study.mining.negatives)
    characters = sum(len(str(row["query"])) + 2 * len(str(row["pos"][0])) for row in rows) / len(rows)
    return round(each * _lines(path)), characters


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for line in stream if line.strip())
