"""Work of many parts whose failed ones are tried again: each round of it writes a report under a number.

A report that tells of failures would otherwise keep them: to Snakemake it is there and up to date.
"""

import json
from pathlib import Path

from realign.artifacts.provenance import read_provenance
from realign.study.evaluation import WARM_DONE


def next_report(folder: Path, job: str) -> str:
    """The report to ask for: the last one, or the next where that tells of failures in what is asked now.

    Where something else is asked by now, by settings or code, the last one is stale and made anew.
    """
    number = max((int(p.stem) for p in folder.glob("*.json") if p.stem.isdigit()), default=1)
    last = folder / f"{number}.json"
    return str(folder / f"{number + 1}.json") if _failed(last, json.loads(job)) else str(last)


def _failed(report: Path, asked: dict[str, object]) -> bool:
    if not report.is_file():
        return False
    made = read_provenance(report)
    if made and any(made[key] != asked[key] for key in ("settings", "code")):
        return False
    try:
        told = json.loads(report.read_text(encoding="utf-8"))
        return any(said != WARM_DONE for said in told.values())
    except (ValueError, AttributeError):
        return False  # no report of ours: it tells nothing
