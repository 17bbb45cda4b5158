"""Inverse row entropy of the Procrustes rotation: main pairs (3), all backbones (12), embedders (13)."""

from pathlib import Path
from typing import Any

from realign.artifacts.command import Job
from realign.drawing.tabulate import Column, Table, publish
from realign.results.plates import LINEAR, Plate, measures_of, named
from realign.results.published import corpus_of, published_value, read_reference
from realign.results.tidy import Tidy, chance, summary
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_3",
        "Inverse row entropy of the Procrustes rotation, main pairs",
        "1 is a signed permutation of dimensions; a column holds the value of a random rotation.",
        category="Representations",
        needs=(measures_of("backbone", "embedder", families=LINEAR),),
        pairs="main",
        corpora="main",
        references=("rotation",),
    ),
    Plate(
        "table_12",
        "Inverse row entropy of all backbone pairs",
        "Final layer, every pair and corpus.",
        category="Representations",
        needs=(measures_of("backbone", families=LINEAR),),
        stage="backbone",
        references=("rotation",),
    ),
    Plate(
        "table_13",
        "Inverse row entropy of all embedding pairs",
        "Final layer, every pair and corpus; mean over seeds.",
        category="Representations",
        needs=(measures_of("embedder", families=LINEAR),),
        stage="embedder",
        references=("rotation",),
    ),
)

COLUMNS = (
    Column("base", "Base"),
    Column("post", "Post-trained"),
    Column("stage", "Of"),
    Column("corpus", "Corpus"),
    Column("value", "Inverse row entropy [95 %]", ".3f", "low", "high"),
    Column("chance", "Random rotation", ".3f"),
    Column("paper", "Paper", ".3f", optional=True),
    Column("difference", "Minus paper", "+.3f", optional=True),
)


def run(job: Job[DrawPlate]) -> None:
    """Make the table."""
    publish(job, make, PLATES)


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each pair, stage and corpus."""
    stage = named(PLATES, asked.plate).stage
    number = int(asked.plate.removeprefix("table_"))  # the paper prints some numbers twice, rounded apart
    published = read_reference(references, "rotation") if asked.view.paper else None
    rows: list[dict[str, Any]] = []
    for pair in asked.pairs:
        for part in (stage,) if stage else ("backbone", "embedder"):
            for corpus in asked.view.corpora:
                own = tidy.measures
                own = own[(own["pair"] == pair.name) & (own["stage"] == part) & (own["corpus"] == corpus)]
                read = summary(own, "procrustes", asked.view.preset)
                paper = published_value(
                    published, pair, asked.known, "value", table=number, stage=part, corpus=corpus_of(corpus)
                )
                rows.append({
                    "kind": pair.kind, "base": asked.labels.get(pair.left, pair.left),
                    "post": asked.labels.get(pair.right, pair.right), "stage": part + "s",
                    "corpus": asked.labels.get(corpus, corpus), "value": read["value"],
                    "low": read["ci_low"], "high": read["ci_high"], "chance": chance(own, "procrustes"),
                    "paper": paper, "difference": read["value"] - paper,
                })  # fmt: skip
    told = [row for row in rows if row["value"] == row["value"] or row["paper"] == row["paper"]]
    return Table(COLUMNS, told, ["Final layer; 1 is a signed permutation of dimensions."])
