"""The update of the weights in numbers: of backbones, of embedders, and of a change of the seed alone."""

from pathlib import Path
from typing import Any

import pandas as pd

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Needs, Plate, measures_of
from realign.results.controls import two_seeds
from realign.results.estimates import of_whole
from realign.results.tidy import Tidy, pick
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_weights",
        "The update of the weights, and what contrastive training leaves of it",
        "Of the update of each pair's weights: relative norm, share of weights whose bits in bfloat16 stay, "
        "effective rank as a share of the smaller side, energy in the principal directions as a multiple of "
        "chance, share of the energy on the largest tenth of the weights, and mean angle of the principal "
        "directions; of embedders also how much of the update between their backbones is left, beside what "
        "another seed alone gives. Intervals of 95 % are over layers, and over seeds if there are several.",
        category="Weights",
        needs=(
            measures_of("backbone", "embedder", families=("weights",), controls=True),
            Needs("measures", ("embedder",), ("survival",), required=False),
        ),
    ),
)

NUMBERS = {  # key: measure, statistic, title, look
    "norm": ("update_norm", "norm", "Relative norm", ".3f"),
    "same": ("update_sparsity", "bf16", "Unchanged in bf16", ".3f"),
    "rank": ("update_rank", "share", "Rank", ".2f"),
    "principal": ("principal_energy", "times_chance", "Principal / chance", ".2f"),
    "largest": ("update_on_largest", "share", "On largest", ".3f"),
    "angle": ("subspace_angles", "mean", "Angle", ".3f"),
    "left": ("survival", "coefficient", "Left of it", ".3f"),
    "explained": ("survival", "explained", "Explained", ".3f"),
    "floor": ("survival", "floor", "Another seed", ".3f"),
}
COLUMNS = (
    Column("base", "Base"),
    Column("post", "Post-trained"),
    Column("stage", "Of"),
    *(
        Column(key, title, look, f"{key}_low", f"{key}_high", optional=measure == "survival")
        for key, (measure, _, title, look) in NUMBERS.items()
    ),
)


def make(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Table:
    """A row for each pair and stage, and one for two seeds of either side."""
    rows: list[dict[str, Any]] = []
    for pair in asked.pairs:
        own = pick(tidy.measures, pair=pair.name)
        for stage, found in (
            ("backbones", pick(own, stage="backbone")),
            ("embedders", pick(own, stage="embedder", recipe=asked.view.recipe)),
            ("two seeds", pick(two_seeds(tidy.measures, pair), recipe=asked.view.recipe)),
        ):
            numbers = _numbers(found)
            if numbers:
                names = {"base": asked.labels.get(pair.left, pair.left), "post": asked.labels[pair.right]}
                rows.append({"kind": pair.kind, **names, "stage": stage, **numbers})
    return Table(COLUMNS, rows)


def _numbers(found: pd.DataFrame) -> dict[str, float]:
    """All that was measured, with intervals; nothing where there is no weight's number."""
    numbers: dict[str, float] = {}
    for key, (measure, statistic, _, _) in NUMBERS.items():
        read = of_whole(found, measure, statistic)
        if read["value"] == read["value"]:
            numbers |= {key: read["value"], f"{key}_low": read["ci_low"], f"{key}_high": read["ci_high"]}
    return numbers


run = publishing(make, PLATES)
