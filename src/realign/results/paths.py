"""The shape of a path: how long it is, how straight, and where along it a number begins to change.

Distances are squared ones, since noise adds to them. Estimates from the same texts err together, so the
interval of a length is as wide as if all errors moved together, which is never too narrow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from realign.results.statistics import NORMAL_95

CHI_SQUARED = 3.841458820694124  # the 95 % point with one degree of freedom
PLACES = 400  # the places on the axis that are tried for a change point


class Bounded(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


NOTHING = Bounded(np.nan, np.nan, np.nan)


def path_length(squared: Sequence[float], noise: float = 0.0, errors: Sequence[float] = ()) -> Bounded:
    """Σ √(d² − noise) over the steps of a path.

    `noise` is the squared distance between two measurements of one point: it adds to each step and would make
    any path long. `errors` are the standard errors of the squared distances; without all of them the length
    has no interval.
    """
    clean = np.asarray(squared, float) - noise
    error = np.asarray(errors, float) if len(errors) else np.full(len(clean), np.nan)
    shift = NORMAL_95 * np.where(np.isfinite(error), error, np.nan)
    ends = (np.sqrt(np.maximum(moved, 0)).sum() for moved in (clean, clean - shift, clean + shift))
    return Bounded(*(float(end) for end in ends))


def straightness(displacement: float, length: float) -> float:
    """The distance between a path's ends as a share of its length: 1 on a line, 0 on a closed way."""
    return displacement / length if length > 0 else np.nan


def turning(from_start: Sequence[float], steps: Sequence[float], noise: float = 0.0) -> float:
    """The mean cosine between the way gone so far and the next step: 1 on a line, 0 for a random walk.

    `from_start` and `steps` are the squared distances of each point from the first and from the one before
    it: cos = (d²(0, i+1) − d²(0, i) − d²(i, i+1)) / 2 d(0, i) d(i, i+1). It is below 0 for a way that comes
    back. Points no further apart than noise have no direction.
    """
    cosines = []
    for i in range(1, len(from_start)):
        so_far, onward, step = (d - noise for d in (from_start[i - 1], from_start[i], steps[i]))
        if min(so_far, step) > 0:
            cosines.append((onward - so_far - step) / (2 * np.sqrt(so_far * step)))
    return float(np.clip(np.mean(cosines), -1, 1)) if cosines else np.nan


def change_point(places: Sequence[float], values: Sequence[float], errors: Sequence[float]) -> Bounded:
    """Where a number leaves its floor: y = c up to τ, and c + b (t − τ) from there on.

    The fit is by weighted least squares for each τ, and the interval holds each τ whose χ² is within 3.84 of
    the least. Nothing is found where the slope explains no more than chance would, and errors that the curve
    does not meet are taken to be so much larger.
    """
    t, y, error = (np.asarray(column, float) for column in (places, values, errors))
    known = np.isfinite(t) & np.isfinite(y) & np.isfinite(error) & (error > 0)
    t, y, weight = t[known], y[known], error[known] ** -2.0
    if len(t) < 3 or t.max() <= t.min():
        return NOTHING
    grid = np.linspace(t.min(), t.max(), PLACES, endpoint=False)
    ramps = np.maximum(t - grid[:, None], 0)
    ramps -= np.average(ramps, axis=1, weights=weight)[:, None]
    centred = y - np.average(y, weights=weight)
    explained = (ramps @ (weight * centred)) ** 2 / (ramps**2 @ weight)
    left = (centred**2 @ weight - explained.max()) / max(len(t) - 3, 1)
    explained /= max(left, 1)  # where no such curve fits within the errors, they are too small
    if explained.max() <= CHI_SQUARED + 2:  # with the slope, τ was chosen too
        return NOTHING
    inside = grid[explained >= explained.max() - CHI_SQUARED]
    return Bounded(float(grid[explained.argmax()]), float(inside.min()), float(inside.max()))
