"""The measures that the paper prints: entropies of the rotation (3, 12, 13) and neighbourhood overlap (4)."""

from itertools import product
from pathlib import Path
from typing import Any

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import LINEAR, NEAR, Plate, measures_of, named
from realign.results.published import corpus_of, published_value, read_reference
from realign.results.tidy import Tidy, chance, pick, summary
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

SIDES = (Column("base", "Base"), Column("post", "Post-trained"), Column("stage", "Of"))
PAPER = (
    Column("paper", "Paper", ".3f", optional=True),
    Column("difference", "Minus paper", "+.3f", optional=True),
)
ENTROPY = (
    Column("corpus", "Corpus"),
    Column("value", "Inverse row entropy [95 %]", ".3f", "low", "high"),
    Column("chance", "Random rotation", ".3f"),
)
OVERLAP = (Column("k", "k", "d"), Column("value", "Overlap [95 %]", ".3f", "low", "high"))


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each pair, stage and corpus, and for each k of an overlap."""
    plate, view = named(PLATES, asked.plate), asked.view
    is_overlap = plate.references == ("overlap",)
    measure = "knn_overlap" if is_overlap else "procrustes"
    measured = pick(tidy.measures, measure=measure)
    sizes: list[int | None] = [*sorted({int(k) for k in measured["k"].dropna()})] if is_overlap else [None]
    published = read_reference(references, plate.references[0]) if view.paper else None
    stages = (plate.stage,) if plate.stage else ("backbone", "embedder")
    rows: list[dict[str, Any]] = []
    for pair, stage, corpus, k in product(asked.pairs, stages, view.corpora, sizes):
        own = pick(measured, pair=pair.name, stage=stage, corpus=corpus, **({"k": k} if k else {}))
        read = summary(own, measure, view.preset, view.first_layer)
        # The paper prints some entropies twice, rounded apart.
        about: dict[str, Any] = {"k": k} if is_overlap else {"table": int(asked.plate.removeprefix("table_"))}
        paper = published_value(
            published, pair, asked.known, "value", stage=stage, corpus=corpus_of(corpus), **about
        )
        if read["value"] == read["value"] or paper == paper:
            rows.append({
                "kind": pair.kind, "base": asked.labels.get(pair.left, pair.left),
                "post": asked.labels.get(pair.right, pair.right), "stage": stage + "s",
                "corpus": asked.labels.get(corpus, corpus), "k": k, "value": read["value"],
                "low": read["ci_low"], "high": read["ci_high"], "chance": chance(own, measure),
                "paper": paper, "difference": read["value"] - paper,
            })  # fmt: skip
    if not is_overlap:
        return Table(
            (*SIDES, *ENTROPY, *PAPER), rows, ["Final layer; 1 is a signed permutation of dimensions."]
        )
    corpus = view.corpora[0] if view.corpora else ""
    counted = "the embedding output included" if view.first_layer == 0 else "without the embedding output"
    note = f"Corpus: {asked.labels.get(corpus, corpus)}; mean over layers, {counted}."
    return Table((*SIDES, *OVERLAP, *PAPER), rows, [note])


run = publishing(make, PLATES)
