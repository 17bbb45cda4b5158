"""The measures of the family `neighbours`: overlap of nearest neighbours."""

from realign.measures.registry import SHARE, Measure, Statistic, register

POOL = "the mean over tokens in a pool of so many"

register(
    Measure(
        "knn_overlap", "neighbours", "geometry", "k-NN overlap", {"mean": Statistic(POOL, SHARE)}, sized=True
    ),
    Measure(
        "mutual_knn", "neighbours", "geometry", "Mutual k-NN", {"mean": Statistic(POOL, SHARE)}, sized=True
    ),
)
