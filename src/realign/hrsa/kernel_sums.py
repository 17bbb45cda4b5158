"""Sums over pairs of tokens from which CKA follows, for the whole sample and with groups left out.

HSIC needs only a few sums over two kernels. Held by pairs and triples of groups, they give every
value with groups left out by subtraction, so that the jackknife costs almost nothing more than the
value itself.

For n tokens, K = XXᵀ and L = YYᵀ (n × n), and H = I − 11ᵀ/n:

    HSIC(K, L) = tr(KHLH) = Σ_ij K_ij L_ij − (2/n) Σ_i R_i S_i + (Σ_ij K_ij)(Σ_ij L_ij)/n²
    CKA(K, L)  = HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L))

with the row sums R and S (Gretton et al. 2005; Kornblith et al. 2019). Below, g stands for the number of
groups, and arrays over what is left out have 1 + g entries: none, then each group in turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from realign.hrsa.groups import Groups
from realign.hrsa.reading import Array


@dataclass
class KernelSums:
    """Sums over tokens i, j of two kernels K and L, with groups left out: (1 + g, left layers, right layers).

    Where each layer meets itself there is one axis of layers. Row sums are R_i = Σ_j K_ij and S_i = Σ_j L_ij.
    """

    tokens: Array  # how many remain: (1 + g,)
    products: Array  # Σ K_ij L_ij
    rows: Array  # Σ R_i S_i
    totals: Array  # Σ K_ij · Σ L_ij
    unbiased: Array  # HSIC of the population, estimated from tokens of different groups

    @classmethod
    def of_shape(cls, groups: Groups, *shape: int) -> "KernelSums":
        """Sums to be filled pair by pair of layers."""
        empty = (np.zeros((len(groups.lost), *shape)) for _ in fields(cls)[1:])
        return cls(groups.left_out, *empty)

    def hsic(self) -> Array:
        """tr(KHLH), the biased estimate up to a factor that CKA divides out."""
        n = self.tokens.reshape(-1, *[1] * (self.products.ndim - 1)).astype(np.float64)
        return self.products - 2 / n * self.rows + self.totals / n**2

    def fill(self, at: tuple[int, ...], by_group: "GroupSums", groups: Groups) -> None:
        """Put in one pair of layers."""
        where: tuple[slice | int, ...] = (slice(None), *at)
        self.products[where] = groups.leave_out_pairs(by_group.products)
        self.rows[where] = groups.leave_out_triples(by_group.rows)
        self.totals[where] = groups.leave_out_pairs(by_group.left) * groups.leave_out_pairs(by_group.right)
        self.unbiased[where] = unbiased_hsic(by_group, groups)


@dataclass
class GroupSums:
    """Sums of one pair of layers' kernels by the groups of the tokens."""

    products: Array  # Σ K_ij L_ij, by the groups of i, j: (g, g)
    rows: Array  # Σ K_ij L_ik, by the groups of i, j, k: (g, g, g)
    left: Array  # Σ K_ij, by the groups of i, j: (g, g)
    right: Array  # Σ L_ij: (g, g)


def unbiased_hsic(sums: GroupSums, groups: Groups) -> Array:
    """The mean of K_ij L_ij − 2 K_ij L_ik + K_ij L_kl over tokens of four different groups: (1 + g,).

    With each token a group of its own, it is the unbiased estimate of Song et al. (2012).

    Tokens of one text resemble each other in any model: where two of the four were of the same
    text, unrelated models would look alike. Groups hold whole texts, so no two of them are. The
    kernels may be shifted as one likes, since every term is a mean over the same fours. NaN where
    fewer than four groups remain.
    """
    others, fours = groups.fours
    apart = 1 - np.eye(groups.count)
    products = (others * sums.products).sum((1, 2))

    # Σ K_ij L_ik of three different groups, times the tokens that l can then be: all but those of the three
    rows = sums.rows * apart[:, :, None] * apart[:, None, :] * apart
    used = groups.sizes[:, None, None] + groups.sizes[:, None] + groups.sizes
    rows = groups.left_out * groups.leave_out_triples(rows) - groups.leave_out_triples(rows * used)

    # Σ K_ij L_kl: of all pairs of pairs, those that share a group go (there are four ways to share one);
    # those that share both were then taken off twice
    left, right = sums.left * apart, sums.right * apart
    touching = groups.leave_out_pairs(left * right), _shared(left, right)
    totals = groups.leave_out_pairs(left) * groups.leave_out_pairs(right) - 4 * touching[1] + 2 * touching[0]
    enough = np.array([groups.count - len(lost) >= 4 for lost in groups.lost])
    return np.divide(products - 2 * rows + totals, fours, out=np.full(len(fours), np.nan), where=enough)


def _shared(left: Array, right: Array) -> Array:
    """Σ_g (Σ_h left_gh)(Σ_h right_gh), whole and without each group."""
    a, b = (np.vstack([k.sum(1), k.sum(1) - k]) for k in (left, right))
    products = a * b
    np.fill_diagonal(products[1:], 0)
    return np.asarray(products.sum(1))


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
        both = (self.across, self.left, self.right)
        across, left, right = (s.unbiased.copy() if debiased else s.hsic() for s in both)
        left[:, self.constant_left], right[:, self.constant_right] = 0, 0
        lengths = np.sqrt(np.maximum(left, 0))[:, :, None] * np.sqrt(np.maximum(right, 0))[:, None, :]
        # HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)), layer pair by layer pair
        value = np.divide(across, lengths, out=np.zeros_like(across), where=lengths != 0)
        return np.clip(value, -1.0 if debiased else 0.0, 1.0)


def sums_of_grams(
    groups: Groups, across: Array, own: Sequence[Array], rows: Sequence[Array]
) -> tuple[KernelSums, KernelSums, KernelSums]:
    """The sums of two kernels with each other, of the left with itself, and of the right with itself.

    `across` and `own` are sums of products by pairs of groups (first two axes), and `rows` each
    token's row sums by group, (layers, tokens, groups), the tokens in the order of their groups.
    """
    ends = np.cumsum(groups.sizes)[:-1]
    a, b = (np.split(side, ends, axis=1) for side in rows)

    def pair(one: list[Array], i: int, other: list[Array], j: int, products: Array) -> GroupSums:
        triples = np.stack([x[i].T @ y[j] for x, y in zip(one, other, strict=True)])
        left, right = (np.stack([x[k].sum(0) for x in side]) for side, k in ((one, i), (other, j)))
        return GroupSums(products, triples, left, right)

    both = KernelSums.of_shape(groups, *across.shape[2:])
    for i, j in np.ndindex(across.shape[2:]):
        both.fill((i, j), pair(a, i, b, j, across[:, :, i, j]), groups)
    alone = []
    for side, products in zip((a, b), own, strict=True):
        alone.append(KernelSums.of_shape(groups, products.shape[2]))
        for i in range(products.shape[2]):
            alone[-1].fill((i,), pair(side, i, side, i, products[:, :, i]), groups)
    return both, alone[0], alone[1]
