"""The measures of the family `probe`: linear probes moved between models."""

from math import inf

from realign.measures.registry import SHARE, Measure, Statistic, register

SCORE = "the score of these probes on texts like these"
GAP = Statistic("the difference of two scores on the same texts")

register(
    Measure(
        "probe",
        "probe",
        "readout",
        "Probe accuracy",
        {
            "accuracy": Statistic(SCORE, SHARE),
            "macro_f1": Statistic(SCORE, SHARE),
            "r2": Statistic(SCORE, (-inf, 1.0)),
            "accuracy_change": GAP,
            "macro_f1_change": GAP,
            "r2_change": GAP,
        },
    ),
)
