"""Benchmark scores of both sides of each pair, the gain, its interval and its tests."""

from pathlib import Path

import numpy as np

from realign.drawing.tabulate import PROBABILITY, Column, Table, publishing
from realign.plates.plate import Needs, Plate
from realign.results.gains import gains
from realign.results.published import published_value, read_reference
from realign.results.statistics import Estimate
from realign.results.tidy import Tidy, task_scores
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_1",
        "Benchmark scores of base and post-trained embedders",
        "Mean over tasks, base / post-trained / difference with its standard deviation over seeds, 90 % "
        "interval over tasks and seeds, and the p-values of the paired test and of equivalence. "
        "Published values are beside those of the same pair.",
        category="Benchmarks",
        needs=(Needs("scores"),),
        references=("benchmarks",),
    ),
)

COLUMNS = (
    Column("base", "Base"),
    Column("post", "Post-trained"),
    Column("benchmark", "Benchmark"),
    Column("base_score", "Base score", ".2f"),
    Column("post_score", "Post score", ".2f"),
    Column("gain", "Δ [90 %]", "+.2f", "low_90", "high_90"),
    Column("sd", "± seeds", ".2f"),
    Column("p_paired", "p paired", PROBABILITY),
    Column("p_equivalent", "p equivalent", PROBABILITY),
    Column("paper_base", "Paper base", ".2f", optional=True),
    Column("paper_post", "Paper post", ".2f", optional=True),
    Column("paper_gain", "Paper Δ", "+.2f", optional=True),
    Column("paper_sd", "± paper", ".2f", optional=True),
    Column("paper_p", "p paper", PROBABILITY, optional=True),
    Column("difference", "Δ minus paper's", "+.2f", optional=True),
)


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """One row for each pair and benchmark."""
    scores = task_scores(tidy.scores, asked.view.preset)
    published = read_reference(references, "benchmarks") if asked.view.paper else None
    rows = []
    for pair in (p for p in asked.pairs if p.embed):
        for gain in gains(scores, pair, asked.view.recipe):
            estimate = gain.estimate
            low, high = estimate.interval(0.90)
            row = {
                "kind": pair.kind, "base": asked.labels.get(pair.left, pair.left),
                "post": asked.labels.get(pair.right, pair.right), "benchmark": gain.benchmark,
                "base_score": gain.left.mean(), "post_score": gain.right.mean(),
                "gain": estimate.value, "low_90": low, "high_90": high,
                "sd": gain.by_seed.std(ddof=1) if len(gain.by_seed) > 1 else np.nan,
                "p_paired": estimate.p_differs(), "p_equivalent": estimate.p_equivalent(asked.view.margin),
            }  # fmt: skip
            for column in ("base", "post", "gain", "sd", "seeds"):
                row[f"paper_{column}"] = published_value(
                    published, pair, asked.known, column, benchmark=gain.benchmark
                )
            row["paper_p"] = paper_p(row["paper_gain"], row["paper_sd"], row["paper_seeds"])
            row["difference"] = row["gain"] - row["paper_gain"]
            rows.append(row)
    table = Table(COLUMNS, rows)
    table.notes.append(
        f"Equivalent means within ± {asked.view.margin:g} points (two one-sided tests). Tasks and seeds are "
        "both taken as drawn from more; no correction over rows is made here, the claims make one."
    )
    if table.has("paper_p"):
        table.notes.append(
            "p paper: the published Δ against zero, from its standard deviation over three seeds."
        )
    return table


def paper_p(gain: float, sd: float, seeds: float) -> float:
    """The two-sided p-value that the published mean and standard deviation give."""
    if not np.isfinite([gain, sd, seeds]).all() or sd == 0:
        return np.nan
    return Estimate(gain, sd / np.sqrt(seeds), seeds - 1).p_differs()


run = publishing(make, PLATES)
