"""The measures of the family `linear`: what one pass over moments gives, and rotations."""

from math import pi

from realign.measures.registry import ABOVE_ZERO, COSINE, SHARE, Measure, Statistic, register

register(
    Measure(
        "correlation",
        "linear",
        "coordinates",
        "Dimension-wise correlation",
        {"mean": Statistic("the mean over dimensions of Pearson's r", COSINE)},
        sums_squares=True,
    ),
    Measure(
        "cka",
        "linear",
        "geometry",
        "Linear CKA",
        {"value": Statistic("biased CKA, as published, that so many tokens give", SHARE)},
        sized=True,
        sums_squares=True,
    ),
    Measure(
        "cka_debiased",
        "linear",
        "geometry",
        "Linear CKA, debiased",
        {"value": Statistic("CKA of the population, from tokens of different groups of texts", COSINE)},
        sums_squares=True,
    ),
    Measure(
        "procrustes",
        "linear",
        "coordinates",
        "Inverse row entropy",
        {
            "inverse_row_entropy": Statistic("the entropy of the rotation that so many texts give", SHARE),
            "angular_distance": Statistic(
                "the angle between both configurations that so many texts give, in sample", (0.0, pi / 2)
            ),
            "residual": Statistic("|XO − Y|²/|Y|² on texts that the rotation was not fitted on", ABOVE_ZERO),
            "cosine": Statistic(
                "mean cosine of XO and Y on texts that the rotation was not fitted on", COSINE
            ),
            "residual_in_sample": Statistic(
                "|XO − Y|²/|Y|² on the texts that the rotation was fitted on", ABOVE_ZERO
            ),
        },
        layers="final",
        sized=True,
        sums_squares=True,
    ),
    Measure(
        "basis_kept",
        "linear",
        "coordinates",
        "Share of the basis kept",
        {"value": Statistic("the share of the population's rotation on its own dimensions", COSINE)},
        layers="final",
        sums_squares=True,
    ),
)
