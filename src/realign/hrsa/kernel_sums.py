"""Sums over pairs of tokens from which CKA follows, for the whole sample and with groups left out.

HSIC needs only a few sums over two kernels. Held by pairs of groups, they give every value with
groups left out by subtraction, so that the jackknife costs almost nothing more than the value itself.
"""

from dataclasses import dataclass

import numpy as np

from realign.hrsa.groups import Groups
from realign.hrsa.reading import Array


@dataclass
class KernelSums:
    """Sums over tokens i, j of two kernels K and L; the first axis is what is left out.

    The other axes are the pairs of layers, or one axis of layers where each meets itself. Row sums
    are R_i = Σ_j K_ij and S_i = Σ_j L_ij.
    """

    tokens: Array  # how many remain
    products: Array  # Σ K_ij L_ij
    rows: Array  # Σ R_i S_i
    diagonals: Array  # Σ K_ii L_ii
    diagonal_rows: Array  # Σ K_ii S_i
    rows_diagonal: Array  # Σ R_i L_ii
    totals: Array  # Σ K_ij · Σ L_ij
    off_diagonal_totals: Array  # the same without the diagonals

    def hsic(self) -> Array:
        """tr(KHLH), the biased estimate up to a factor that CKA divides out."""
        n = self._count()
        return self.products - 2 / n * self.rows + self.totals / n**2

    def debiased_hsic(self) -> Array:
        """The unbiased estimate (Song et al. 2012): diagonals left out, factors for what that takes."""
        n = self._count()
        products = self.products - self.diagonals
        rows = self.rows - self.diagonal_rows - self.rows_diagonal + self.diagonals
        total = products + self.off_diagonal_totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows
        return total / (n * (n - 3))

    def _count(self) -> Array:
        return self.tokens.reshape(-1, *[1] * (self.products.ndim - 1)).astype(np.float64)


@dataclass
class CkaSums:
    """The sums of both kernels with each other and of each with itself."""

    across: KernelSums
    left: KernelSums
    right: KernelSums
    constant_left: Array  # layers in which all tokens are equal, up to rounding
    constant_right: Array

    def cka(self, debiased: bool = False) -> Array:
        """CKA with groups left out: (left out, layers, layers); 0 where a layer does not vary."""
        of = KernelSums.debiased_hsic if debiased else KernelSums.hsic
        across, left, right = (of(sums) for sums in (self.across, self.left, self.right))
        left[:, self.constant_left], right[:, self.constant_right] = 0, 0
        lengths = np.sqrt(np.maximum(left, 0))[:, :, None] * np.sqrt(np.maximum(right, 0))[:, None, :]
        value = np.divide(across, lengths, out=np.zeros_like(across), where=lengths > 0)
        return np.clip(value, -1.0 if debiased else 0.0, 1.0)


def sums_of_grams(
    groups: Groups, of_row: Array, across: Array, own: list[Array], rows: list[Array], diagonals: list[Array]
) -> tuple[KernelSums, KernelSums, KernelSums]:
    """The sums of two kernels with each other, of the left with itself, and of the right with itself.

    `across` and `own` are sums of products by pairs of groups (first two axes), `rows` each token's
    row sums by group, (layers, tokens, groups), and `diagonals` its own entry, (layers, tokens).
    """

    parts: dict[str, list[dict[str, Array]]] = {"across": [], "left": [], "right": []}
    whole = [r.sum(2) for r in rows]
    for lost in groups.lost:
        keep = ~np.isin(of_row, lost)
        row = [w[:, keep] - r[:, :, lost].sum(2)[:, keep] for w, r in zip(whole, rows, strict=True)]
        diagonal = [d[:, keep] for d in diagonals]
        total, trace = [r.sum(1) for r in row], [d.sum(1) for d in diagonal]
        off = [a - b for a, b in zip(total, trace, strict=True)]
        parts["across"].append(
            {
                "rows": row[0] @ row[1].T,
                "diagonals": diagonal[0] @ diagonal[1].T,
                "diagonal_rows": diagonal[0] @ row[1].T,
                "rows_diagonal": row[0] @ diagonal[1].T,
                "totals": np.outer(total[0], total[1]),
                "off_diagonal_totals": np.outer(off[0], off[1]),
            }
        )
        for side, name in enumerate(("left", "right")):
            mixed = (diagonal[side] * row[side]).sum(1)
            parts[name].append(
                {
                    "rows": (row[side] ** 2).sum(1),
                    "diagonals": (diagonal[side] ** 2).sum(1),
                    "diagonal_rows": mixed,
                    "rows_diagonal": mixed,
                    "totals": total[side] ** 2,
                    "off_diagonal_totals": off[side] ** 2,
                }
            )
    pairs = {"across": across, "left": own[0], "right": own[1]}
    both, one, other = (_collect(groups, groups.leave_out_pairs(pairs[name]), parts[name]) for name in parts)
    return both, one, other


def _collect(groups: Groups, products: Array, parts: list[dict[str, Array]]) -> KernelSums:
    stacked = {key: np.stack([p[key] for p in parts]) for key in parts[0]}
    return KernelSums(tokens=groups.left_out, products=products, **stacked)
