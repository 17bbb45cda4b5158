"""The commands that draw: one for each figure and table, made from the catalogue.

Each has the fingerprint of its own code: a change to one module redraws what that module draws.
"""

from typing import Any

from realign.artifacts.command import Command, Input, Output
from realign.plates.catalogue import PLATES
from realign.plates.plate import Plate
from realign.study.drawing import DrawPlate


def _command(plate: Plate) -> Command[DrawPlate]:
    forms = ("csv", "tex", "md") if plate.is_table else ("pdf", "png", "svg", "csv")
    folder = "tables" if plate.is_table else "figures"
    return Command(
        name=plate.name,
        help=plate.heading,
        run=f"realign.drawing.{folder}.{plate.module}:run",
        settings=DrawPlate,
        inputs={
            "tidy": Input("Tidy results that it reads.", many=True, required=False),
            "reference": Input("Published values.", many=True, required=False),
        },
        outputs={form: Output(f"The {plate.name.split('_')[0]} as {form.upper()}.") for form in forms},
        formats={"plate": 1},
    )


PLATE_COMMANDS = {name: _command(plate) for name, plate in PLATES.items()}


def __getattr__(name: str) -> Any:
    """`FIGURE_3`, `TABLE_12`, …: the command of each plate, for the table of commands."""
    try:
        return PLATE_COMMANDS[name.lower()]
    except KeyError:
        raise AttributeError(name) from None
