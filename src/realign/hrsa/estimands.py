"""What each interval is about: the number that it covers 95 times in 100 when new texts are drawn.

Every table of measures carries these sentences (`estimands` in the metadata of its schema, and in
`attrs` of the frame that `compare` returns).
"""

ESTIMANDS = {
    "correlation.mean": "the mean over dimensions of Pearson's r",
    "cka.value": "biased CKA, as published, that so many tokens give",
    "cka_debiased.value": "CKA of the population, from tokens of different groups of texts",
    "procrustes.inverse_row_entropy": "the entropy of the rotation that so many texts give",
    "procrustes.angular_distance": "the angle between both configurations that so many texts give, in sample",
    "procrustes.residual": "|XO − Y|²/|Y|² on texts that the rotation was not fitted on",
    "procrustes.cosine": "mean cosine of XO and Y on texts that the rotation was not fitted on",
    "procrustes.residual_in_sample": "|XO − Y|²/|Y|² on the texts that the rotation was fitted on",
    "knn_overlap.mean": "the mean over tokens in a pool of so many",
    "mutual_knn.mean": "the mean over tokens in a pool of so many",
    "probe.accuracy": "the score of these probes on texts like these",
    "probe.macro_f1": "the score of these probes on texts like these",
    "probe.r2": "the score of these probes on texts like these",
    "probe.accuracy_change": "the difference of two scores on the same texts",
    "probe.macro_f1_change": "the difference of two scores on the same texts",
    "probe.r2_change": "the difference of two scores on the same texts",
    "rsa.spearman": "Spearman's r of distances, ranks of the whole sample",
    "cka_rbf.value": "biased CKA with Gaussian kernels of the whole sample's widths",
    "intrinsic_dimension.value": "the description of one model by so many tokens",
    "effective_dimension.value": "the description of one model by so many tokens",
    "mean_cosine.value": "the description of one model by so many tokens",
    "isotropy.value": "the description of one model by so many tokens",
}
MEAN = "the mean over corresponding layers of: "


def estimand(measure: str, statistic: str) -> str:
    """What an interval of this statistic is about; each that is made must be listed here."""
    if statistic == "mean_over_layers":
        return MEAN + next(s for name, s in ESTIMANDS.items() if name.startswith(f"{measure}."))
    return ESTIMANDS[f"{measure}.{statistic}"]
