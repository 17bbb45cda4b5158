"""The floors of a pair among the measures: what is found where nothing of the pair's own was changed."""

from collections.abc import Iterable

import pandas as pd

from realign.results.tidy import pick
from realign.study.description import PairEntry


def two_seeds(measures: pd.DataFrame, pair: PairEntry) -> pd.DataFrame:
    """Embedders of either side that differ in their contrastive seed alone."""
    return pick(measures, kind="control", pair=[f"{pair.left}-seeds", f"{pair.right}-seeds"])


def across_seeds(measures: pd.DataFrame, pair: PairEntry) -> pd.DataFrame:
    """Embedders of the pair's two sides that were trained with different contrastive seeds."""
    return pick(measures, kind="control", pair=f"{pair.name}-crossed")


def random_weights(measures: pd.DataFrame, pair: PairEntry, untrained: Iterable[str]) -> pd.DataFrame:
    """The base beside random weights of its shape, of the backbones that have such (`untrained`)."""
    beside = [f"{pair.left}--vs--{name}" for name in untrained]
    return pick(measures, kind="control", stage="backbone", pair=beside)


def chance_overlap(k: int, tokens: float) -> float:
    """The Jaccard overlap to expect of two sets of k that are drawn from a token's tokens − 1 others.

    They share k²/(tokens − 1) on average, so the overlap is k/(2(tokens − 1) − k), near enough.
    """
    return k / (2 * (tokens - 1) - k)
