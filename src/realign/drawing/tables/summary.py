"""What each level says of SFT, of RLVR, and of contrastive training: numbers beside words."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import LINEAR, NEAR, PROBE, Plate, measures_of
from realign.results.probe import SATURATED, probe_accuracy, probed, saturated, with_probe_corpus
from realign.results.published import read_reference
from realign.results.tidy import Tidy, summary, usual_k
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_2",
        "What each level of comparison says",
        "Numbers of this study by level and kind of post-training, and the published wording beside them.",
        category="Representations",
        needs=(measures_of("backbone", "embedder", families=(*LINEAR, *NEAR, *PROBE)),),
        corpora="main",
        references=("summary",),
        facts=("corpora", "probe"),
    ),
)

ASPECTS = (
    ("Coordinate basis", "procrustes", "inverse row entropy"),
    ("Global geometry", "cka", "linear CKA"),
    ("Local geometry", "knn_overlap", "k-NN overlap"),
    ("Linear readout", "probe", "accuracy lost by moving the probe"),
)
GROUPS = (
    ("sft", "backbone", "SFT backbones"),
    ("sft", "embedder", "SFT embedders"),
    ("rlvr", "backbone", "RLVR backbones"),
    ("rlvr", "embedder", "RLVR embedders"),
)


def values(asked: DrawPlate, tidy: Tidy, measure: str, kind: str, stage: str) -> list[float]:
    """The measure of every pair of a kind."""
    found = []
    for pair in (p for p in asked.pairs if p.kind == kind):
        own = tidy.measures[(tidy.measures["pair"] == pair.name) & (tidy.measures["stage"] == stage)]
        if measure == "probe":
            bars = probe_accuracy(own, asked.view, pair.name, stage)
            test = bars[bars["split"] == "test"].set_index("side")["value"]
            found.append(float(test.get("base", np.nan) - test.get("post-trained", np.nan)))
            continue
        own = own[own["corpus"].isin(asked.view.corpora)]
        if measure == "knn_overlap":
            own = own[own["k"] == usual_k(tidy.measures, asked.view.neighbours)]
        found.append(summary(own, measure, asked.view.preset, asked.view.first_layer)["value"])
    return [v for v in found if np.isfinite(v)]


def readouts(asked: DrawPlate, tidy: Tidy) -> list[str]:
    """What was probed, and for which pairs that tells nothing."""
    found, high = [], []
    for kind, stage, title in GROUPS:
        for pair in (p for p in asked.pairs if p.kind == kind):
            bars = probe_accuracy(tidy.measures, asked.view, pair.name, stage)
            found.append(bars)
            if saturated(bars):
                high.append(f"{pair.name} ({title})")
    told = probed(pd.concat(found), asked.facts) if any(map(len, found)) else []
    return [*told, f"Linear readout of {', '.join(high)}: {SATURATED}."] if high else told


def _range(found: list[float]) -> str:
    if not found:
        return ""
    low, high = min(found), max(found)
    return f"{low:.2f}" if len(found) == 1 else f"{low:.2f} to {high:.2f} ({len(found)} pairs)"


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each aspect; this study's range of numbers, then the published wording."""
    asked = asked.model_copy(update={"view": with_probe_corpus(asked.view, tidy.measures)})
    published = read_reference(references, "summary")
    words = published.set_index("aspect") if published is not None else None
    columns = [Column("aspect", "Aspect"), Column("measure", "Measure")]
    columns += [Column(f"{kind}_{stage}", title, optional=True) for kind, stage, title in GROUPS]
    columns += [
        Column("paper_sft", "Paper: SFT"),
        Column("paper_rlvr", "Paper: RLVR"),
        Column("paper_after", "Paper: after CL"),
    ]
    rows: list[dict[str, Any]] = []
    for aspect, measure, unit in ASPECTS:
        row: dict[str, Any] = {"aspect": aspect, "measure": unit}
        for kind, stage, _ in GROUPS:
            row[f"{kind}_{stage}"] = _range(values(asked, tidy, measure, kind, stage))
        if words is not None:
            row |= {
                "paper_sft": words.loc[aspect, "sft"], "paper_rlvr": words.loc[aspect, "rlvr"],
                "paper_after": words.loc[aspect, "after_contrastive"],
            }  # fmt: skip
        rows.append(row)
    return Table(
        columns,
        rows,
        [
            "Numbers: lowest to highest over pairs; whether they bear the words is judged by the claims.",
            *readouts(asked, tidy),
        ],
    )


run = publishing(make, PLATES)
