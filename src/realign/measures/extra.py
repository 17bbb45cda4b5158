"""The measures of the family `extra`: what others use for the same questions, on a sample of tokens."""

from realign.measures.registry import ABOVE_ZERO, COSINE, SHARE, Measure, Statistic, register

ONE_MODEL = "the description of one model by so many tokens"

register(
    Measure(
        "rsa",
        "extra",
        "geometry",
        "RSA",
        {"spearman": Statistic("Spearman's r of distances, ranks of the whole sample", COSINE)},
        sums_squares=True,
    ),
    Measure(
        "cka_rbf",
        "extra",
        "geometry",
        "RBF CKA",
        {"value": Statistic("biased CKA with Gaussian kernels of the whole sample's widths", SHARE)},
        sized=True,
        sums_squares=True,
    ),
    Measure(
        "cka_rbf_debiased",
        "extra",
        "geometry",
        "RBF CKA, debiased",
        {"value": Statistic("RBF CKA of the population, from tokens of different groups of texts", COSINE)},
        sums_squares=True,
    ),
    Measure("svcca", "extra", "geometry", "SVCCA", {"mean": Statistic()}, sized=True),
    Measure("pwcca", "extra", "geometry", "PWCCA", {"mean": Statistic()}, sized=True),
    Measure(
        "intrinsic_dimension",
        "extra",
        "description",
        "Intrinsic dimension",
        {"value": Statistic(ONE_MODEL, ABOVE_ZERO)},
    ),
    Measure(
        "effective_dimension",
        "extra",
        "description",
        "Effective dimension",
        {"value": Statistic(ONE_MODEL, ABOVE_ZERO)},
    ),
    Measure("mean_cosine", "extra", "description", "Mean cosine", {"value": Statistic(ONE_MODEL, COSINE)}),
    Measure("isotropy", "extra", "description", "Isotropy", {"value": Statistic(ONE_MODEL, SHARE)}),
)
