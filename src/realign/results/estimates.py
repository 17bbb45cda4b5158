"""From rows of measures to estimates: value, standard error, degrees of freedom."""

import numpy as np
import pandas as pd

from realign.measures.table import MEASURES
from realign.results.columns import PUBLISHED
from realign.results.statistics import Estimate, from_interval, moving_together, over_seeds
from realign.results.tidy import counterparts, of_preset, pick, readings


def row_estimates(rows: pd.DataFrame, bounds: tuple[float, float] = (-np.inf, np.inf)) -> list[Estimate]:
    """Each row's estimate; of rows without a standard error (format 1) the one that its interval shows."""
    return [
        Estimate(float(r.value), float(r.se), float(r.df))
        if np.isfinite(r.se)
        else from_interval(r.value, r.ci_low, r.ci_high, bounds)
        for r in rows[["value", "ci_low", "ci_high", "se", "df"]].astype(float).itertuples()
    ]


def shown_interval(estimate: Estimate, bounds: tuple[float, float]) -> tuple[float, float]:
    """The 95 % interval within a number's range; no ends where the error is unknown."""
    if not np.isfinite(estimate.error):
        return np.nan, np.nan
    low, high = np.clip(estimate.interval(), *bounds).tolist()
    return low, high


def of_whole(frame: pd.DataFrame, measure: str, statistic: str) -> dict[str, float]:
    """A number of whole models over seeds, and its 95 % interval, to which their scatter adds."""
    rows = pick(frame, measure=measure, statistic=statistic)
    rows = rows[rows["layer_left"].isna() & (rows["part"].fillna("") == "")]
    bounds = MEASURES[measure].statistics[statistic].bounds
    estimate = over_seeds(row_estimates(rows, bounds))
    low, high = shown_interval(estimate, bounds)
    return {"value": estimate.value, "ci_low": low, "ci_high": high}


def number_of(frame: pd.DataFrame, measure: str, preset: str = "", first: int = 1) -> Estimate:
    """The number that stands for one comparison, as `tidy.summary` reads it, with its error."""
    declared = MEASURES[measure]
    if declared.layers == "mean":
        means = pick(frame, measure=measure, statistic="mean_over_layers")
        means = pick(means, preset=PUBLISHED) if first == 0 else of_preset(means, preset)
        if len(means):
            return moving_together(row_estimates(means, declared.main.bounds))
    rows = readings(frame, measure, preset)
    whole = rows[rows["layer_left"].isna()]
    if len(whole):  # a number of the models themselves rather than of their layers
        return moving_together(row_estimates(whole, declared.main.bounds))
    rows = counterparts(rows)
    last = declared.layers == "final"
    rows = rows[rows["layer_left"] == rows["layer_left"].max()] if last else rows[rows["layer_left"] >= first]
    return moving_together(row_estimates(rows, declared.main.bounds))
