"""A matrix's rows where they are compared: on the host as they lie, on another device all at once.

Scores in float64 have the same bits on every device: a device forms each product and each sum by itself,
in the order in which numpy sums a row.
"""

import numpy as np
import torch

from realign.vectors.exact import Metric, pair_scores
from realign.vectors.rows import Rows

Tensor = torch.Tensor
PAIR_VALUES = 1 << 16  # values of pairs that the host widens at a time: they stay in a processor's cache
DEVICE_VALUES = 1 << 26  # the same on a device: 1 GB in float64 for both sides
ALONE = 128  # values that numpy sums in eight strands; it halves what is longer


class Held:
    """Rows, to be read as float64 and scored in pairs on one device; their numbers are tensors there."""

    def __init__(self, rows: Rows, device: torch.device):
        self.size, self.width, self.device = len(rows), rows.width, device
        self.on_host = is_host(device)
        self._rows, lengths = rows, rows.norms()
        self.norms = self.up(lengths)
        self._there = None if self.on_host else self.up(rows.raw(slice(None)))

    def up(self, values: np.ndarray) -> Tensor:
        """Values of the host on the device."""
        return torch.from_numpy(values).to(self.device)

    def read(self, which: Tensor) -> Tensor:
        """Some rows as float64."""
        if self._there is None:
            return torch.from_numpy(self._rows.read(which.numpy()))
        return self._there[which].double()

    def compared(self, which: Tensor, metric: Metric) -> Tensor:
        """Some rows as the metric compares them: at length one for the cosine, unless they have none."""
        rows = self.read(which)
        if metric == "cosine":
            norms = self.norms[which][:, None]
            rows /= torch.where(norms > 0, norms, 1.0)
        return rows

    def scores(self, first: Tensor, second: Tensor, metric: Metric) -> Tensor:
        """How close each of some rows is to one other: the bits of `pair_scores`."""
        scores = torch.empty(len(first), dtype=torch.float64, device=self.device)
        step = max(1, (PAIR_VALUES if self.on_host else DEVICE_VALUES) // self.width)
        for start in range(0, len(first), step):
            some = slice(start, start + step)
            a, b = first[some], second[some]
            x, y, norms = self.read(a), self.read(b), (self.norms[a], self.norms[b])
            if self.on_host:
                arrays = (x.numpy(), y.numpy(), metric, norms[0].numpy(), norms[1].numpy())
                scores[some] = torch.from_numpy(pair_scores(*arrays))
            else:
                scores[some] = _pair_scores(x, y, metric, norms[0] * norms[1])
        return scores


def is_host(device: torch.device) -> bool:
    """Whether numpy can work on a tensor of this device, and does so faster than torch."""
    return device.type == "cpu"


def _pair_scores(x: Tensor, y: Tensor, metric: Metric, lengths: Tensor) -> Tensor:
    """`pair_scores` by torch."""
    if metric == "l2":
        difference = x - y
        return -pairwise_sum(difference * difference)
    products = pairwise_sum(x * y)
    return products if metric == "ip" else torch.where(lengths > 0, products / lengths, 0.0)


def pairwise_sum(values: Tensor) -> Tensor:
    """The sum of each row as numpy forms it: halves of long rows, and eight strands of short ones."""
    width = values.shape[1]
    if width > ALONE:
        half = width // 2 - width // 2 % 8
        return pairwise_sum(values[:, :half]) + pairwise_sum(values[:, half:])
    strands, whole = torch.zeros_like(values[:, :1]), 0
    if width >= 8:
        whole = width - width % 8
        strands = values[:, :8]
        for start in range(8, whole, 8):
            strands = strands + values[:, start : start + 8]
        while strands.shape[1] > 1:  # neighbours first
            strands = strands[:, ::2] + strands[:, 1::2]
    total = strands[:, 0]
    for column in range(whole, width):
        total = total + values[:, column]
    return total
