"""The measures of the family `survival`: what contrastive training leaves of an update D, as Δ."""

from realign.measures.registry import ABOVE_ZERO, COSINE, SHARE, Measure, Statistic, register

HERE = "over layers like these: "

register(
    Measure(
        "survival",
        "survival",
        "weights",
        "Survival of the update",
        {
            "coefficient": Statistic(HERE + "⟨Δ, D⟩/|D|², 1 where the update is kept"),
            "explained": Statistic(HERE + "⟨Δ, D⟩²/(|Δ|²|D|²)", SHARE),
            "floor": Statistic(HERE + "|⟨Δ, D⟩|/|D|² with Δ between two seeds of one backbone", ABOVE_ZERO),
        },
    ),
    Measure(
        "update_cosine",
        "survival",
        "weights",
        "Cosine of updates",
        {
            "training": Statistic(HERE + "cosine of two backbones' updates by training", COSINE),
            "seeds": Statistic(HERE + "cosine of two seeds' updates by training", COSINE),
        },
    ),
)
