"""The pairs of backbones (9) and of embedders (10): where they come from, how large and how able."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Needs, Plate
from realign.results.published import read_reference, rows_of
from realign.results.tidy import Tidy, pick
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_9",
        "Pairs of backbones",
        "Where each pair of backbones comes from and what lies between the two: the share of held-out "
        "problems solved, and what the post-trained side gains on the same problems, one by one.",
        category="The question",
        needs=(Needs("backbones", required=False),),
        stage="backbone",
        references=("backbones",),
        facts=("backbones",),
    ),
    Plate(
        "table_10",
        "Pairs of embedders",
        "The pairs whose both sides were trained into embedders.",
        category="The question",
        needs=(Needs("backbones", required=False),),
        stage="embedder",
        references=("embedders",),
        facts=("backbones",),
    ),
)

COLUMNS = (
    Column("type", "Kind"),
    Column("base", "Base"),
    Column("post", "Post-trained"),
    Column("tags", "Tags", optional=True),
    Column("source", "Source of the post-trained"),
    Column("parameters", "Parameters", ",.0f"),
    Column("base_rate", "Pass rate, base", ".3f", "base_low", "base_high", optional=True),
    Column("post_rate", "Pass rate, post-trained", ".3f", "post_low", "post_high", optional=True),
    Column("gain", "Gain, paired", "+.3f", "gain_low", "gain_high", optional=True),
    Column("perplexity", "Perplexity ÷ base's", ".3f", "perplexity_low", "perplexity_high", optional=True),
    Column("paper", "Paper", optional=True),
)


def _metric(backbones: pd.DataFrame, name: str, metric: str, base: str = "") -> dict[str, float]:
    """A backbone's number; one that compares it with its base only where that is the one asked for."""
    rows = pick(backbones, backbone=name, metric=metric, **({"base": base} if base else {}))
    if rows.empty:
        return dict.fromkeys(("value", "ci_low", "ci_high"), np.nan)
    last = rows.iloc[-1]  # the held-out split stands last
    return {c: float(last[c]) for c in ("value", "ci_low", "ci_high")}


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each pair."""
    published = next(
        (t for t in (read_reference(references, n) for n in ("backbones", "embedders")) if t is not None),
        None,
    )
    sources: dict[str, Any] = asked.facts.get("backbones", {})
    rows = []
    for pair in (p for p in asked.pairs if not asked.kinds[p.kind].control):
        same = rows_of(published, pair, asked.known)
        paper = ""
        if same is not None and len(same):
            paper = ", ".join(str(same.iloc[0][c]) for c in ("algorithm", "data") if c in same) or "yes"
        base, post = (_metric(tidy.backbones, n, "pass_rate") for n in (pair.left, pair.right))
        gain, perplexity = (
            _metric(tidy.backbones, pair.right, metric, base=pair.left)
            for metric in ("pass_rate_gain", "perplexity_ratio")
        )
        rows.append({
            "kind": pair.kind, "type": asked.kinds[pair.kind].label,
            "base": asked.labels.get(pair.left, pair.left),
            "post": asked.labels.get(pair.right, pair.right), "tags": ", ".join(pair.tags),
            "source": str(sources.get(pair.right, {}).get("source", "")),
            "parameters": _metric(tidy.backbones, pair.right, "parameters")["value"],
            "base_rate": base["value"], "base_low": base["ci_low"], "base_high": base["ci_high"],
            "post_rate": post["value"], "post_low": post["ci_low"], "post_high": post["ci_high"],
            "gain": gain["value"], "gain_low": gain["ci_low"], "gain_high": gain["ci_high"],
            "perplexity": perplexity["value"], "perplexity_low": perplexity["ci_low"],
            "perplexity_high": perplexity["ci_high"], "paper": paper,
        })  # fmt: skip
    table = Table(COLUMNS, rows)
    if table.has("post_rate"):
        table.notes.append(
            "Pass rate: held-out problems, sampled answers; gain and perplexity are against the base on the "
            "same problems and texts. 95 % intervals over problems, or texts."
        )
    return table


run = publishing(make, PLATES)
