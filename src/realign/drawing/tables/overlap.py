"""Neighbourhood overlap of the main pairs, mean over layers."""

from pathlib import Path
from typing import Any

from realign.artifacts.command import Job
from realign.drawing.tabulate import Column, Table, publish
from realign.results.plates import NEAR, Plate, measures_of
from realign.results.published import corpus_of, published_value, read_reference
from realign.results.tidy import Tidy, summary
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_4",
        "Neighbourhood overlap, main pairs",
        "Mean over layers of the overlap of k nearest neighbours.",
        category="Representations",
        needs=(measures_of("backbone", "embedder", families=NEAR),),
        pairs="main",
        corpora="main",
        references=("overlap",),
    ),
)

COLUMNS = (
    Column("base", "Base"),
    Column("post", "Post-trained"),
    Column("stage", "Of"),
    Column("k", "k", "d"),
    Column("value", "Overlap [95 %]", ".3f", "low", "high"),
    Column("paper", "Paper", ".3f", optional=True),
    Column("difference", "Minus paper", "+.3f", optional=True),
)


def run(job: Job[DrawPlate]) -> None:
    """Make the table."""
    publish(job, make, PLATES)


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each pair, stage and k."""
    published = read_reference(references, "overlap") if asked.view.paper else None
    near = tidy.measures[tidy.measures["measure"] == "knn_overlap"]
    measured = sorted({int(k) for k in near["k"].dropna()})
    corpus = asked.view.corpora[0] if asked.view.corpora else ""
    rows: list[dict[str, Any]] = []
    for pair in asked.pairs:
        for stage in ("backbone", "embedder"):
            for k in measured:
                own = near[(near["pair"] == pair.name) & (near["stage"] == stage) & (near["k"] == k)]
                read = summary(
                    own[own["corpus"] == corpus], "knn_overlap", asked.view.preset, asked.view.first_layer
                )
                paper = published_value(
                    published, pair, asked.known, "value", stage=stage, corpus=corpus_of(corpus), k=k
                )
                if read["value"] == read["value"] or paper == paper:
                    rows.append({
                        "kind": pair.kind, "base": asked.labels.get(pair.left, pair.left),
                        "post": asked.labels.get(pair.right, pair.right), "stage": stage + "s", "k": k,
                        "value": read["value"], "low": read["ci_low"], "high": read["ci_high"],
                        "paper": paper, "difference": read["value"] - paper,
                    })  # fmt: skip
    counted = (
        "the embedding output included" if asked.view.first_layer == 0 else "without the embedding output"
    )
    return Table(COLUMNS, rows, [f"Corpus: {asked.labels.get(corpus, corpus)}; mean over layers, {counted}."])
