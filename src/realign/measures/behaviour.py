"""The measures of the family `behaviour`: two models' distributions over the next token."""

from math import inf, log

from realign.measures.registry import ABOVE_ZERO, SHARE, Measure, Statistic, register

HERE = "over tokens of texts like these: "
LOSS_ADDED = "over tokens of texts like these, with maps fitted on so many others: the loss added by "


def _named(text: str) -> dict[str, Statistic]:
    """A number of either model, and how it changes."""
    return {
        "change": Statistic(f"{HERE}{text}, right minus left"),
        "left": Statistic(f"{HERE}{text}, left model", ABOVE_ZERO),
        "right": Statistic(f"{HERE}{text}, right model", ABOVE_ZERO),
    }


register(
    Measure(
        "token_kl",
        "behaviour",
        "behaviour",
        "KL by token",
        {
            "left_right": Statistic(HERE + "mean of KL(left‖right)", ABOVE_ZERO),
            "right_left": Statistic(HERE + "mean of KL(right‖left)", ABOVE_ZERO),
            "half_share": Statistic(HERE + "least share of them that has half of all KL(left‖right)", SHARE),
        },
    ),
    Measure(
        "token_js",
        "behaviour",
        "behaviour",
        "Jensen–Shannon by token",
        {"mean": Statistic(HERE + "mean divergence", (0.0, log(2)))},
    ),
    Measure(
        "top1_agreement",
        "behaviour",
        "behaviour",
        "Agreement of the top token",
        {"share": Statistic(HERE + "the share with one top token", SHARE)},
    ),
    Measure(
        "top_rank",
        "behaviour",
        "behaviour",
        "Rank of the other's top token",
        {
            "left_in_right": Statistic(HERE + "geometric mean of the left one's in the right", (1.0, inf)),
            "right_in_left": Statistic(HERE + "geometric mean of the right one's in the left", (1.0, inf)),
        },
    ),
    Measure("token_entropy", "behaviour", "behaviour", "Entropy by token", _named("mean entropy")),
    Measure("text_loss", "behaviour", "behaviour", "Loss on the text", _named("mean −ln p of the next")),
    Measure(
        "perplexity",
        "behaviour",
        "behaviour",
        "Perplexity",
        {
            "ratio": Statistic(HERE + "right by left", ABOVE_ZERO),
            "left": Statistic(HERE + "left model", (1.0, inf)),
            "right": Statistic(HERE + "right model", (1.0, inf)),
        },
    ),
    Measure(
        "lens_kl",
        "behaviour",
        "behaviour",
        "KL of logit lenses",
        {
            "between": Statistic(HERE + "mean of KL(left‖right), both read at this layer", ABOVE_ZERO),
            "left_own": Statistic(HERE + "mean of KL(end‖this layer), left model", ABOVE_ZERO),
            "right_own": Statistic(HERE + "mean of KL(end‖this layer), right model", ABOVE_ZERO),
        },
    ),
    Measure(
        "stitching",
        "behaviour",
        "behaviour",
        "Loss added by stitching",
        {
            "affine": Statistic(LOSS_ADDED + "an affine map"),
            "rotation": Statistic(LOSS_ADDED + "a rotation"),
            "identity": Statistic(LOSS_ADDED + "no map at all"),
            "shuffled": Statistic(),  # a floor, which depends on how its tokens were shuffled
        },
    ),
)
