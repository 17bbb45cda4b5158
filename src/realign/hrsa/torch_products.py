"""The measures' products on a GPU (or any device that torch knows)."""

import numpy as np
import torch

from realign.hrsa.products import Centred, Precision
from realign.hrsa.reading import Array


class TorchProducts:
    """Products by torch; TF32 is off, since its ten bits of mantissa are no float32."""

    def __init__(self, precision: Precision = "float32", device: torch.device | str = "cpu"):
        self.dtype = np.dtype(precision)
        self.device = torch.device(device)
        torch.backends.cuda.matmul.allow_tf32 = False

    def _there(self, values: Array | torch.Tensor) -> torch.Tensor:
        if isinstance(values, torch.Tensor):
            return values
        return torch.from_numpy(np.ascontiguousarray(values, self.dtype)).to(self.device)

    @staticmethod
    def _back(values: torch.Tensor) -> Array:
        return values.double().cpu().numpy()

    def hold(self, values: Array) -> torch.Tensor:
        """Values that are wanted for many products, where these are taken."""
        return self._there(values)

    def feature_sums(self, left: Centred, right: Centred) -> tuple[Array, Array]:
        """Sums of two layers' linear kernels, by the groups of their tokens."""
        (groups, p), (_, q) = left.sums.shape, right.sums.shape
        cross = torch.zeros((groups, p, q), dtype=torch.float64, device=self.device)
        for (group, x), (_, y) in zip(left, right, strict=True):
            cross[group] += self._there(x).T @ self._there(y)
        flat = cross.flatten(1)
        a, b = (torch.from_numpy(side.sums).to(self.device) for side in (left, right))
        return self._back(flat @ flat.T), self._back(a @ cross @ b.T)

    def by_dimension(self, left: Array, right: Array) -> Array:
        """Sums over rows by dimension: (layers, rows, d) twice give (layers, layers, d)."""
        by = self._there(left).permute(2, 0, 1) @ self._there(right).permute(2, 1, 0)
        return self._back(by.permute(1, 2, 0))

    def grams(self, first: Array, second: Array) -> torch.Tensor:
        """Inner products of rows, layer by layer: (layers, a, d) and (layers, b, d) give (layers, a, b)."""
        return self._there(first) @ self._there(second).transpose(1, 2)

    def gram_sums(self, left: torch.Tensor, right: torch.Tensor) -> tuple[Array, Array, Array]:
        """Sums of products of two stacks of Gram blocks: across all layers, and each with itself."""
        across = left.transpose(0, 1) @ right.permute(1, 2, 0)
        own = [(s * s).sum((1, 2), dtype=torch.float64) for s in (left, right)]
        return self._back(across.sum(0, dtype=torch.float64)), self._back(own[0]), self._back(own[1])

    def margins(self, grams: torch.Tensor) -> tuple[Array, Array]:
        """Row sums and column sums of a stack of Gram blocks."""
        return self._back(grams.sum(2, dtype=torch.float64)), self._back(grams.sum(1, dtype=torch.float64))
