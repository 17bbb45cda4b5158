"""How a measure of two models is declared, and the declarations that were made.

A declaration says which family computes a measure, which number stands for it, what range its
numbers lie in, and what their intervals are about. Each family has a file of declarations here, and its code
imports that file alone: a new measure leaves the comparisons of other families as they are. All others, such
as claims, figures and the manual, import `realign.measures.table`, which knows every family.
The files import nothing, so that a plan reads them without numpy.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

Level = Literal["weights", "coordinates", "geometry", "readout", "behaviour", "description"]
SHARE, COSINE, ABOVE_ZERO = (0.0, 1.0), (-1.0, 1.0), (0.0, inf)
MEAN = "the mean over corresponding layers of: "


@dataclass(frozen=True)
class Statistic:
    """One number of a measure."""

    estimand: str = ""  # the quantity that the interval covers 95 times in 100 when new texts are drawn
    bounds: tuple[float, float] = (-inf, inf)  # the ends of a shown interval are kept within them

    @property
    def has_interval(self) -> bool:
        """Whether the number comes with an interval."""
        return bool(self.estimand)


@dataclass(frozen=True)
class Measure:
    """A measure: its family, its level, and its statistics, of which the first stands for it."""

    name: str
    family: str
    level: Level
    title: str
    statistics: dict[str, Statistic]
    layers: Literal["mean", "final"] = "mean"  # the layers that its one number is read from
    sized: bool = False  # whether that number depends on how many texts and tokens it is taken from
    sums_squares: bool = False  # whether a few very long tokens (attention sinks) can decide it

    @property
    def statistic(self) -> str:
        """The statistic that stands for the measure."""
        return next(iter(self.statistics))

    @property
    def main(self) -> Statistic:
        """That statistic's range and estimand."""
        return self.statistics[self.statistic]


DECLARED: dict[str, Measure] = {}


def register(*measures: Measure) -> None:
    """Declare measures; a name stands for one measure only."""
    for measure in measures:
        if measure.name in DECLARED:
            raise ValueError(f"the measure '{measure.name}' is declared twice")
        DECLARED[measure.name] = measure


def statistic_of(measure: str, statistic: str) -> Statistic:
    """The declaration of one statistic; a mean over layers is declared by the measure's own number."""
    declared = DECLARED[measure]
    if statistic == "mean_over_layers":
        return Statistic(MEAN + declared.main.estimand, declared.main.bounds)
    return declared.statistics[statistic]
