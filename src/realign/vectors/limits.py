"""Upper limits of the scores of all pairs of a matrix's rows, as one symmetric float32 product.

With the rows a_i (of length one for the cosine), any centre m, and x_i = a_i − m,

    ip, cosine:   a_i·a_j          = x_i·x_j + b_i + b_j + |m|²,   b_i = m·x_i
    l2:          −|a_i − a_j|² / 2 = x_i·x_j + b_i + b_j,          b_i = −|x_i|² / 2

A float32 product of n values is off by less than ε (|x_i||x_j| + |b_i| + |b_j|), ε ≈ 8 √n 2⁻²⁴ (see `scan`).
The bound is a product itself: one more column h_i = √ε |x_i| adds it, and b_i takes its own share. So

    U_ij = (x_i, h_i, b_i + ε|b_i|, 1)·(x_j, h_j, 1, b_j + ε|b_j|)

is above the true score, less a constant that changes no order. It is below the true score when twice the
bound, 2 (h_i h_j + ε|b_i| + ε|b_j|), is taken off.
"""

import math

import numpy as np
import torch

from realign.vectors.exact import Metric
from realign.vectors.held import Held
from realign.vectors.scan import DEVIATIONS, LONGEST, UNIT

Tensor = torch.Tensor
PREPARED = 1 << 17  # values that a processor prepares at a time: they stay in its cache
CENTRED_BY = 4096  # rows, drawn at random, whose mean is the centre
FLOAT64 = 1e-13  # error of a float64 score, at most, relative to the rows' lengths


class Limits:
    """Rows prepared for such products, in an order drawn at random, and their numbers in the matrix."""

    def __init__(self, rows: Held, metric: Metric):
        self.size, self.device = rows.size, rows.device
        # at random, so that the first rows are a sample of all
        self.order = rows.up(np.random.default_rng(self.size).permutation(self.size))
        self._rows = torch.empty((self.size, rows.width + 3), device=self.device)
        lengths, own = (torch.empty(self.size, dtype=torch.float64, device=self.device) for _ in range(2))
        centre = rows.compared(self.order[:CENTRED_BY], metric).mean(0)
        step = max(1, PREPARED // rows.width) if rows.on_host else CENTRED_BY
        for start in range(0, self.size, step):
            some = slice(start, start + step)
            x = rows.compared(self.order[some], metric) - centre
            self._rows[some, : rows.width] = x
            lengths[some] = torch.linalg.vector_norm(x, dim=1)
            own[some] = -(lengths[some] ** 2) / 2 if metric == "l2" else x @ centre
        own -= own.median()  # smaller numbers lose less
        # 4: what is multiplied has been rounded
        relative = 1.01 * (DEVIATIONS * math.sqrt(rows.width + 3) + 4) * UNIT[torch.float32]
        in_float64 = torch.ones_like(own) if metric == "cosine" else rows.norms[self.order]
        self._shared = math.sqrt(relative) * lengths + math.sqrt(FLOAT64) * in_float64
        self._alone = relative * own.abs() + FLOAT64 * lengths * (lengths + torch.linalg.vector_norm(centre))
        self._rows[:, -3] = self._shared
        self._rows[:, -2] = own + self._alone
        self._rows[:, -1] = 1
        self.overflow = not bool((lengths < LONGEST).all())

    def upper(self, these: slice | Tensor, those: slice) -> Tensor:
        """The upper limits of some rows' pairs with others: (these, those)."""
        other = self._rows[those].clone()
        other[:, -2:] = other[:, -2:].flip(1)
        return self._rows[these] @ other.T

    def lower(self, rows: Tensor, places: Tensor, upper: Tensor) -> Tensor:
        """The lower limits in float64 of each row's pairs with its places: (rows, places)."""
        error = self._shared[rows][:, None] * self._shared[places]
        error += self._alone[rows][:, None] + self._alone[places]
        return upper - 2 * error
