"""How a benchmark hands over what it measured: one line a number, on its output.

    from measured import measured

    measured("20,000 × 20,000 × 384, 2 threads", "time, sentence-transformers / ours", 1.42, "×", aim="≥ 1")

A person reads the lines as they come; `python -m bench NAME` keeps them as data.
"""

import json
import statistics
from collections.abc import Sequence

MARK = "MEASURED "


def measured(
    case: str,
    measure: str,
    value: float,
    unit: str = "",
    aim: str = "",
    between: tuple[float, float] | None = None,
) -> None:
    """Print one number: of which case, what it is, its unit, and what it should be where there is an aim.

    `between` holds the least and the greatest of the rounds that a median is of.
    """
    row = {"case": case, "measure": measure, "value": value, "unit": unit, "aim": aim}
    if between:
        row["between"] = between
    print(MARK + json.dumps(row, ensure_ascii=False), flush=True)


def spread(case: str, measure: str, values: Sequence[float], unit: str, aim: str = "") -> None:
    """Print the median of some rounds; of more than one, with the least and the greatest."""
    median, least, greatest = (round(f(values), 2) for f in (statistics.median, min, max))
    measured(case, measure, median, unit, aim, (least, greatest) if len(values) > 1 else None)
