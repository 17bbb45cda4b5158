"""The pairs of backbones (9) and of embedders (10): where they come from, how large and how able."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from realign.artifacts.command import Job
from realign.paper.plan import PlateJob
from realign.paper.published import read_reference, rows_of
from realign.paper.tabulate import Column, Table, publish
from realign.paper.tidy import Tidy

COLUMNS = (
    Column("type", "Kind"),
    Column("base", "Base"),
    Column("post", "Post-trained"),
    Column("tags", "Tags"),
    Column("source", "Source of the post-trained"),
    Column("parameters", "Parameters", ".3g"),
    Column("base_rate", "Pass rate, base", ".3f", "base_low", "base_high"),
    Column("post_rate", "Pass rate, post-trained", ".3f", "post_low", "post_high"),
    Column("paper", "Paper"),
)


def run(job: Job[PlateJob]) -> None:
    """Make the table."""
    publish(job, make)


def _metric(backbones: pd.DataFrame, name: str, metric: str) -> dict[str, float]:
    rows = backbones[(backbones["backbone"] == name) & (backbones["metric"] == metric)]
    if rows.empty:
        return dict.fromkeys(("value", "ci_low", "ci_high"), np.nan)
    last = rows.iloc[-1]  # the held-out split stands last
    return {c: float(last[c]) for c in ("value", "ci_low", "ci_high")}


def make(asked: PlateJob, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each pair."""
    published = next(
        (t for t in (read_reference(references, n) for n in ("backbones", "embedders")) if t is not None),
        None,
    )
    sources: dict[str, Any] = asked.facts.get("backbones", {})
    rows = []
    for pair in (p for p in asked.pairs if p.kind != "control"):
        same = rows_of(published, pair, asked.known)
        paper = ""
        if same is not None and len(same):
            paper = ", ".join(str(same.iloc[0][c]) for c in ("algorithm", "data") if c in same) or "yes"
        base, post = (_metric(tidy.backbones, n, "pass_rate") for n in (pair.left, pair.right))
        rows.append({
            "kind": pair.kind, "type": pair.kind.upper(), "base": asked.labels.get(pair.left, pair.left),
            "post": asked.labels.get(pair.right, pair.right), "tags": ", ".join(pair.tags),
            "source": str(sources.get(pair.right, {}).get("source", "")),
            "parameters": _metric(tidy.backbones, pair.right, "parameters")["value"],
            "base_rate": base["value"], "base_low": base["ci_low"], "base_high": base["ci_high"],
            "post_rate": post["value"], "post_low": post["ci_low"], "post_high": post["ci_high"],
            "paper": paper,
        })  # fmt: skip
    return Table(COLUMNS, rows)
