"""The measures' products on a GPU (or any device that torch knows)."""

from collections.abc import Sequence

import numpy as np
import torch

from realign.hrsa.products import Features, FeatureSums, Precision
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

    def feature_sums(self, left: Features, right: Features) -> FeatureSums:
        """Sums of two layers from C_g = Σ x yᵀ of each group: Σ K_ij L_ij of groups g, h is ⟨C_g, C_h⟩."""
        (g, p), (_, q) = left.shape, right.shape
        cross = torch.zeros((g, p, q), dtype=torch.float64, device=self.device)
        triples = np.zeros((g, g, g))
        for (group, x, in_left), (_, y, in_right) in zip(left, right, strict=True):
            cross[group] += self._there(x).T @ self._there(y)
            triples[group] += in_left.T @ in_right
        flat = cross.flatten(1)
        return FeatureSums(self._back(flat @ flat.T), triples, self._back(cross.diagonal(dim1=1, dim2=2)))

    def by_dimension(self, left: Array, right: Array) -> Array:
        """Sums over rows by dimension: (layers, rows, d) twice give (layers, layers, d)."""
        by = self._there(left).permute(2, 0, 1) @ self._there(right).permute(2, 1, 0)
        return self._back(by.permute(1, 2, 0))

    def gram_sums(self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> Sequence[Array]:
        """Sums of products of Gram blocks of all layers: left with right ones, and each with itself."""
        # (layers, rows of the first block, rows of the second)
        left, right = (x @ y.transpose(1, 2) for x, y in zip(first, second, strict=True))
        across = (left.transpose(0, 1) @ right.permute(1, 2, 0)).sum(0, dtype=torch.float64)
        own = [(s * s).sum((1, 2), dtype=torch.float64) for s in (left, right)]
        return [self._back(sums) for sums in (across, *own)]
