"""Functional stitching: what one model's final states are worth to the other model's head.

States are carried over by a map that was fitted on the tokens of other texts (of three folds in four), and
judged by the loss that they add over the head's own states (Bansal et al., arXiv 2106.07682). With centred
states x and y of the same tokens:

- rotation: the orthogonal O that minimizes |xO − y|
- affine: (XᵀX + λ diag(XᵀX))⁻¹ XᵀY, whose ridge does not depend on how wide a dimension is spread
- identity: the states as they are; shuffled: the affine map where each x stands beside another token's y
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FOLDS = 4


@dataclass
class Moments:
    """Sums over tokens: how many, x, y, xxᵀ, xyᵀ, and xyᵀ with y of shuffled tokens; in float64."""

    count: Tensor
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    shuffled: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, order: Tensor) -> "Moments":
        """The sums of these tokens; `order` shuffles them."""
        x, y = x.double(), y.double()
        count = torch.tensor(float(len(x)), dtype=torch.float64, device=x.device)
        return cls(count, x.sum(0), y.sum(0), x.T @ x, x.T @ y, x.T @ y[order])

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Map:
    """x ↦ (x − from)M + to."""

    start: Tensor
    matrix: Tensor
    end: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The states that stand for x."""
        return ((x.double() - self.start) @ self.matrix + self.end).float()


def fitted(seen: Moments, ridge: float) -> dict[str, Map]:
    """The maps that these tokens give; of models of unlike widths the affine ones alone."""
    start, end = seen.x / seen.count, seen.y / seen.count
    xx = seen.xx - torch.outer(seen.x, start)
    spread = xx + torch.diag(ridge * xx.diag() + 1e-12 * xx.diag().mean())
    xy, shuffled = (products - torch.outer(seen.x, end) for products in (seen.xy, seen.shuffled))
    maps = {"affine": Map(start, torch.linalg.solve(spread, xy), end)}
    if xy.shape[0] == xy.shape[1]:
        u, _, v = torch.linalg.svd(xy)
        nothing = torch.zeros_like(start)
        maps["rotation"] = Map(start, u @ v, end)
        maps["identity"] = Map(nothing, torch.eye(len(start), dtype=xy.dtype, device=xy.device), nothing)
    return {**maps, "shuffled": Map(start, torch.linalg.solve(spread, shuffled), end)}
