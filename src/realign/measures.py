"""The measures of two models, each declared once.

A declaration says which family computes a measure, which number stands for it, what range its
numbers lie in, and what their intervals are about. Claims check names against it; rows of results
take bounds and estimands from it; tables, figures and the manual take titles and levels.
It imports nothing, so that a plan reads it without numpy.
"""

from dataclasses import dataclass
from math import inf, pi
from typing import Literal

Level = Literal["coordinates", "geometry", "readout", "description"]
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
    sums_squares: bool = False  # whether a few very long tokens (attention sinks) can decide it

    @property
    def statistic(self) -> str:
        """The statistic that stands for the measure."""
        return next(iter(self.statistics))

    @property
    def main(self) -> Statistic:
        """That statistic's range and estimand."""
        return self.statistics[self.statistic]


MEASURES: dict[str, Measure] = {}


def register(measure: Measure) -> Measure:
    """Declare a measure; a name stands for one measure only."""
    if measure.name in MEASURES:
        raise ValueError(f"the measure '{measure.name}' is declared twice")
    MEASURES[measure.name] = measure
    return measure


def claimable() -> list[str]:
    """The measures whose number has an interval and compares two models: a claim can be tested on them."""
    return [m.name for m in MEASURES.values() if m.main.has_interval and m.level != "description"]


def statistic_of(measure: str, statistic: str) -> Statistic:
    """The declaration of one statistic; a mean over layers is declared by the measure's own number."""
    declared = MEASURES[measure]
    if statistic == "mean_over_layers":
        return Statistic(MEAN + declared.main.estimand, declared.main.bounds)
    return declared.statistics[statistic]


SHARE, COSINE, ABOVE_ZERO = (0.0, 1.0), (-1.0, 1.0), (0.0, inf)
POOL = "the mean over tokens in a pool of so many"
SCORE = "the score of these probes on texts like these"
GAP = Statistic("the difference of two scores on the same texts")
ONE_MODEL = "the description of one model by so many tokens"

for declared in (
    Measure(
        "correlation", "linear", "coordinates", "Dimension-wise correlation",
        {"mean": Statistic("the mean over dimensions of Pearson's r", COSINE)},
        sums_squares=True,
    ),
    Measure(
        "cka", "linear", "geometry", "Linear CKA",
        {"value": Statistic("biased CKA, as published, that so many tokens give", SHARE)},
        sums_squares=True,
    ),
    Measure(
        "cka_debiased", "linear", "geometry", "Linear CKA, debiased",
        {"value": Statistic("CKA of the population, from tokens of different groups of texts", COSINE)},
        sums_squares=True,
    ),
    Measure(
        "procrustes", "linear", "coordinates", "Inverse row entropy",
        {
            "inverse_row_entropy": Statistic("the entropy of the rotation that so many texts give", SHARE),
            "angular_distance": Statistic(
                "the angle between both configurations that so many texts give, in sample", (0.0, pi / 2)
            ),
            "residual": Statistic(
                "|XO − Y|²/|Y|² on texts that the rotation was not fitted on", ABOVE_ZERO
            ),
            "cosine": Statistic(
                "mean cosine of XO and Y on texts that the rotation was not fitted on", COSINE
            ),
            "residual_in_sample": Statistic(
                "|XO − Y|²/|Y|² on the texts that the rotation was fitted on", ABOVE_ZERO
            ),
        },
        layers="final",
        sums_squares=True,
    ),
    Measure("knn_overlap", "neighbours", "geometry", "k-NN overlap", {"mean": Statistic(POOL, SHARE)}),
    Measure("mutual_knn", "neighbours", "geometry", "Mutual k-NN", {"mean": Statistic(POOL, SHARE)}),
    Measure(
        "probe", "probe", "readout", "Probe accuracy",
        {
            "accuracy": Statistic(SCORE, SHARE), "macro_f1": Statistic(SCORE, SHARE),
            "r2": Statistic(SCORE, (-inf, 1.0)),
            "accuracy_change": GAP, "macro_f1_change": GAP, "r2_change": GAP,
        },
    ),
    Measure(
        "rsa", "extra", "geometry", "RSA",
        {"spearman": Statistic("Spearman's r of distances, ranks of the whole sample", COSINE)},
        sums_squares=True,
    ),
    Measure(
        "cka_rbf", "extra", "geometry", "RBF CKA",
        {"value": Statistic("biased CKA with Gaussian kernels of the whole sample's widths", SHARE)},
        sums_squares=True,
    ),
    Measure("svcca", "extra", "geometry", "SVCCA", {"mean": Statistic()}),
    Measure("pwcca", "extra", "geometry", "PWCCA", {"mean": Statistic()}),
    Measure(
        "intrinsic_dimension", "extra", "description", "Intrinsic dimension",
        {"value": Statistic(ONE_MODEL, ABOVE_ZERO)},
    ),
    Measure(
        "effective_dimension", "extra", "description", "Effective dimension",
        {"value": Statistic(ONE_MODEL, ABOVE_ZERO)},
    ),
    Measure(
        "mean_cosine", "extra", "description", "Mean cosine", {"value": Statistic(ONE_MODEL, COSINE)}
    ),
    Measure("isotropy", "extra", "description", "Isotropy", {"value": Statistic(ONE_MODEL, SHARE)}),
):  # fmt: skip
    register(declared)
