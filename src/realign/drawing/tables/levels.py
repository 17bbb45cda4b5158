"""The levels of comparison: what each must and must not forgive, and which measures this study made."""

from pathlib import Path

from realign.drawing.tabulate import Column, Table, publishing
from realign.measures.table import MEASURES
from realign.plates.plate import Plate, measures_of
from realign.results.published import read_reference
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "table_8",
        "Levels, invariances and measures",
        "What each level must and must not forgive, its default measures and what could stand in for them; "
        "the last column says what this study measured.",
        category="The question",
        needs=(measures_of("backbone"),),
        corpora="main",
        references=("levels",),
    ),
)

COLUMNS = (
    Column("level", "Level"),
    Column("must_forgive", "Must forgive"),
    Column("must_not_forgive", "Must not forgive"),
    Column("measures", "Default measures"),
    Column("alternatives", "Could stand in"),
    Column("measured", "Measured here"),
)
# The paper's names of the levels that measures declare.
LEVELS = {"Representation": "coordinates", "Geometry": "geometry", "Function": "readout"}


def make(asked: DrawPlate, tidy: Tidy, references: list[Path]) -> Table:
    """The published table, with the measures that this study's results hold."""
    published = read_reference(references, "levels")
    rows = published.to_dict("records") if published is not None else []
    there = set(tidy.measures["measure"]) - {"sample", "sinks"}
    placed = {m.name for m in MEASURES.values() if m.level in LEVELS.values()}
    for row in rows:
        level = LEVELS.get(row["level"])
        row["measured"] = ", ".join(m.name for m in MEASURES.values() if m.level == level and m.name in there)
    others = sorted(there - placed)
    return Table(COLUMNS, rows, [f"Also measured: {', '.join(others)}."] if others else [])


run = publishing(make, PLATES)
