"""Every figure and table by name, collected from the modules of `drawing` without importing them.

The workflow, the plan and the command line need names, titles and needs; the modules import matplotlib.
So the tuple `PLATES` of each module is read from its syntax tree. No stage's work imports this module:
else one plate's caption would make all plates stale.
"""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

from realign.plates import plate as vocabulary
from realign.plates.plate import Plate

DRAWING = Path(__file__).parents[1] / "drawing"


def declared(path: Path) -> tuple[Plate, ...]:
    """The plates that a module declares above its first function; none where it has no `PLATES`."""
    words: dict[str, Any] = dict(vars(vocabulary))
    top = path.read_text(encoding="utf-8").split("\ndef ", 1)[0]  # the rest would cost most of the time
    for node in ast.parse(top).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        name, value = node.targets[0].id, node.value
        if isinstance(value, ast.Constant):  # a sentence that several captions share
            words[name] = value.value
        elif name == "PLATES":
            found = eval(compile(ast.Expression(value), path, "eval"), words)  # noqa: S307
            return tuple(replace(plate, module=path.stem) for plate in found)
    return ()


def _order(plate: Plate) -> tuple[bool, int, str]:
    """Figures before tables; those of the paper by number, then our own by name."""
    number = plate.name.split("_", 1)[1]
    return plate.is_table, int(number) if number.isdigit() else 1000, plate.name


PLATES: dict[str, Plate] = {
    plate.name: plate
    for plate in sorted((p for path in sorted(DRAWING.glob("*/*.py")) for p in declared(path)), key=_order)
}
FIGURES = [name for name, plate in PLATES.items() if not plate.is_table]
TABLES = [name for name, plate in PLATES.items() if plate.is_table]
