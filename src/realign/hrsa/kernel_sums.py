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
    totals: Array  # Σ K_ij · Σ L_ij
    debiased: Array  # the unbiased estimate of HSIC, over tokens of different groups

    def hsic(self) -> Array:
        """tr(KHLH), the biased estimate up to a factor that CKA divides out."""
        n = self.tokens.reshape(-1, *[1] * (self.products.ndim - 1)).astype(np.float64)
        return self.products - 2 / n * self.rows + self.totals / n**2

    def debiased_hsic(self) -> Array:
        """The unbiased estimate; NaN where fewer than four groups remain."""
        return self.debiased.copy()


class Apart:
    """The unbiased estimate of HSIC (Song et al. 2012) with groups of texts in the place of samples.

    It is the mean of K_ij L_ij + K_ij L_kl - 2 K_ij L_ik over tokens i, j, k, l of four different groups.
    Tokens of one text are not independent: leaving out only i = j finds likeness where there is none.
    """

    def __init__(self, groups: Groups):
        keep = np.array([~np.isin(np.arange(groups.count), lost) for lost in groups.lost])
        self.pairs = keep[:, :, None] & keep[:, None] & ~np.eye(groups.count, dtype=bool)
        sizes = np.where(keep, groups.sizes, 0).astype(np.float64)
        n, square = sizes.sum(1)[:, None, None], (sizes**2).sum(1)[:, None, None]
        two = sizes[:, :, None] + sizes[:, None]
        # how many pairs of tokens of two more groups go with each pair, and single tokens with each triple
        more = (n - two) ** 2 - square + sizes[:, :, None] ** 2 + sizes[:, None] ** 2
        self._with_pair = np.where(self.pairs, more, 0)
        self._with_triple = n[..., None] - two[:, :, :, None] - sizes[:, None, None, :]
        self._with_triple *= self.pairs[:, :, :, None] & self.pairs[:, :, None, :] & self.pairs[:, None]
        self._count = (self._with_pair * sizes[:, :, None] * sizes[:, None]).sum((1, 2))

    def triples(self, group: int, sums: Array) -> Array:
        """What one group's Σ_i R_i^h S_i^l, by the groups h and l (first axes), adds to the third term."""
        return np.tensordot(self._with_triple[:, group], sums, 2)

    def estimate(self, products: Array, triples: Array, totals: Array) -> Array:
        """HSIC with groups left out from Σ K_ij L_ij by pairs of groups and the other two terms."""
        first = np.tensordot(self._with_pair, products, 2)
        count = self._count.reshape(-1, *[1] * (first.ndim - 1))
        whole = np.full_like(first, np.nan)
        # groups of unequal size leave a count that is 0 only up to rounding
        return np.divide(first - 2 * triples + totals, count, out=whole, where=count > 0.5)

    def totals(self, left: Array, right: Array, own: bool = False) -> Array:
        """Σ K_ij L_kl over four different groups, from sums of K and L by pairs of groups, (layers, g, h)."""
        return np.stack([self._totals(left * mask, right * mask, own) for mask in self.pairs])

    @staticmethod
    def _totals(left: Array, right: Array, own: bool) -> Array:
        how = "a...,a...->a" if own else "a...,b...->ab"
        whole = np.einsum(how, left.sum((1, 2)), right.sum((1, 2)))
        shared = np.einsum(how.replace("...", "g"), left.sum(2), right.sum(2))
        both = np.einsum(how.replace("...", "gh"), left, right, optimize=True)
        return np.asarray(whole - 4 * shared + 2 * both)


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
        value = np.divide(across, lengths, out=np.zeros_like(across), where=~(lengths <= 0))
        return np.clip(value, -1.0 if debiased else 0.0, 1.0)


def sums_of_grams(
    groups: Groups, of_row: Array, across: Array, own: list[Array], rows: list[Array]
) -> tuple[KernelSums, KernelSums, KernelSums]:
    """The sums of two kernels with each other, of the left with itself, and of the right with itself.

    `across` and `own` are sums of products by pairs of groups (first two axes), and `rows` each token's
    row sums by group, (layers, tokens, groups).
    """
    apart = Apart(groups)
    by_pair = [np.stack([r[:, of_row == g].sum(1) for g in range(groups.count)], 1) for r in rows]
    both = _sums_of(groups, of_row, apart, across, rows, by_pair, own=False)
    left, right = (
        _sums_of(groups, of_row, apart, own[s], [rows[s]] * 2, [by_pair[s]] * 2, own=True) for s in (0, 1)
    )
    return both, left, right


def _sums_of(
    groups: Groups,
    of_row: Array,
    apart: Apart,
    products: Array,
    rows: list[Array],
    by_pair: list[Array],
    own: bool,
) -> KernelSums:
    """The sums of two kernels of all layers, or with `own` of each layer's with itself."""
    how = "ai,ai->a" if own else "ai,bi->ab"
    row_sums, totals = [], []
    whole = [r.sum(2) for r in rows]
    for lost in groups.lost:
        keep = ~np.isin(of_row, lost)
        left, right = (w[:, keep] - r[:, :, lost].sum(2)[:, keep] for w, r in zip(whole, rows, strict=True))
        row_sums.append(np.einsum(how, left, right, optimize=True))
        totals.append(np.einsum(how.replace("i", ""), left.sum(1), right.sum(1)))
    triples = np.zeros((len(groups.lost), *products.shape[2:]))
    how = "aih,ail->hla" if own else "aih,bil->hlab"
    for group in range(groups.count):
        here = of_row == group
        triples += apart.triples(group, np.einsum(how, *(r[:, here] for r in rows), optimize=True))
    debiased = apart.estimate(products, triples, apart.totals(by_pair[0], by_pair[1], own))
    return KernelSums(
        groups.left_out, groups.leave_out_pairs(products), np.stack(row_sums), np.stack(totals), debiased
    )
