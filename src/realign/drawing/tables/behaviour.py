"""What comes next in numbers: how two models' distributions over the next token differ."""

from pathlib import Path
from typing import Any

import pandas as pd

from realign.drawing.tabulate import Column, Table, publishing
from realign.plates.plate import Plate, measures_of
from realign.results.controls import random_weights
from realign.results.estimates import of_whole
from realign.results.tidy import Tidy, pick
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_behaviour",
        "What two models expect to come next",
        "Of each pair's backbones on the main corpus: KL divergence by token in both directions, the least "
        "share of tokens that carries half of it, the share of tokens with one most likely successor, the "
        "change of entropy, the ratio of perplexities, and the loss that the other model's final states add "
        "at the base's head after an affine map. Intervals of 95 % are over texts. Further rows "
        "hold each base beside random weights.",
        category="Behaviour",
        needs=(measures_of("backbone", families=("behaviour",), controls=True),),
        corpora="main",
    ),
)
NUMBERS = {  # key: measure, statistic, title, look
    "kl": ("token_kl", "left_right", "KL to the post-trained", ".3f"),
    "reverse": ("token_kl", "right_left", "KL to the base", ".3f"),
    "half": ("token_kl", "half_share", "Half of it on", ".3f"),
    "top": ("top1_agreement", "share", "One top token", ".3f"),
    "entropy": ("token_entropy", "change", "Entropy", "+.3f"),
    "perplexity": ("perplexity", "ratio", "Perplexity ratio", ".3f"),
    "stitched": ("stitching", "affine", "Stitched loss", "+.3f"),
}
COLUMNS = (
    Column("base", "Base"),
    Column("post", "Post-trained"),
    *(Column(key, title, look, f"{key}_low", f"{key}_high") for key, (_, _, title, look) in NUMBERS.items()),
)


def make(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Table:
    """A row for each pair, and one for each base beside random weights."""
    found = pick(tidy.measures, stage="backbone")
    rows: list[dict[str, Any]] = []
    bases = set()
    for pair in asked.pairs:
        names = {"base": asked.labels.get(pair.left, pair.left), "post": asked.labels[pair.right]}
        if numbers := _numbers(pick(found, pair=pair.name)):
            rows.append({"kind": pair.kind, **names, **numbers})
        floor = _numbers(random_weights(found, pair, asked.untrained))
        if floor and pair.left not in bases:
            rows.append({"kind": "control", **names, "post": "random weights", **floor})
            bases.add(pair.left)
    return Table(COLUMNS, rows)


def _numbers(found: pd.DataFrame) -> dict[str, float]:
    """All that was measured, with intervals."""
    numbers: dict[str, float] = {}
    for key, (measure, statistic, _, _) in NUMBERS.items():
        own = pick(found, direction="right") if measure == "stitching" else found
        read = of_whole(own, measure, statistic)
        if read["value"] == read["value"]:
            numbers |= {key: read["value"], f"{key}_low": read["ci_low"], f"{key}_high": read["ci_high"]}
    return numbers


run = publishing(make, PLATES)
