"""The measures of the family `weights`: the update D = B − A between two models' weights."""

from math import pi

from realign.measures.registry import ABOVE_ZERO, SHARE, Measure, Statistic, register

RIGHT_ANGLE = (0.0, pi / 2)
HERE = "over layers like these: "

register(
    Measure(
        "update_norm",
        "weights",
        "weights",
        "Relative norm of the update",
        {"norm": Statistic(HERE + "|D|/|A|", ABOVE_ZERO)},
    ),
    Measure(
        "update_sparsity",
        "weights",
        "weights",
        "Sparsity of the update",
        {
            "bf16": Statistic(HERE + "the share of weights whose bits in bfloat16 stay", SHARE),
            "stored": Statistic(HERE + "the share of weights that stay as they are stored", SHARE),
            "tolerance": Statistic(
                HERE + "the share of weights that move by no more than a tolerance", SHARE
            ),
        },
    ),
    Measure(
        "update_rank",
        "weights",
        "weights",
        "Rank of the update",
        {
            "share": Statistic(HERE + "mean of (Σσ²)²/Σσ⁴ of D over the smaller side of a matrix", SHARE),
            "effective": Statistic(HERE + "mean of (Σσ²)²/Σσ⁴ of D", ABOVE_ZERO),
            "stable": Statistic(HERE + "mean of Σσ²/σ₁² of D", ABOVE_ZERO),
        },
    ),
    Measure(
        "update_spectrum",
        "weights",
        "weights",
        "Spectrum of the update",
        {
            "top": Statistic(HERE + "mean share of |D|² on its own k first directions", SHARE),
            "share": Statistic(HERE + "mean share of |D|² on its own k-th direction", SHARE),
        },
    ),
    Measure(
        "update_on_largest",
        "weights",
        "weights",
        "Update on the largest weights",
        {"share": Statistic(HERE + "mean share of |D|² on the largest entries of A", SHARE)},
    ),
    Measure(
        "principal_energy",
        "weights",
        "weights",
        "Update in principal directions",
        {
            "times_chance": Statistic(HERE + "mean of |UᵀDV|²/|D|² by the mean of k²/(mn)", ABOVE_ZERO),
            "inside": Statistic(HERE + "mean of |UᵀDV|²/|D|² with k principal directions of A", SHARE),
            "left": Statistic(HERE + "mean of |UᵀD|²/|D|²", SHARE),
            "right": Statistic(HERE + "mean of |DV|²/|D|²", SHARE),
        },
    ),
    Measure(
        "singular_values",
        "weights",
        "weights",
        "Change of singular values",
        {"change": Statistic(HERE + "mean of |S_B − S_A|/|S_A| over k singular values", ABOVE_ZERO)},
    ),
    Measure(
        "subspace_angles",
        "weights",
        "weights",
        "Angle of principal subspaces",
        {
            "mean": Statistic(HERE + "mean principal angle of both sides", RIGHT_ANGLE),
            "left": Statistic(HERE + "mean principal angle of the left sides", RIGHT_ANGLE),
            "right": Statistic(HERE + "mean principal angle of the right sides", RIGHT_ANGLE),
            # The largest angles of few layers have tails too long for an interval (bench/coverage.py).
            "left_largest": Statistic(bounds=RIGHT_ANGLE),
            "right_largest": Statistic(bounds=RIGHT_ANGLE),
        },
    ),
)
