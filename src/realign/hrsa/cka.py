"""Linear CKA of all pairs of layers: biased (as published) and debiased, with groups left out.

HSIC needs only a few sums over pairs of tokens. With many tokens they come from the features
(D × D products, layer pair by layer pair), with fewer from Gram blocks that all layers share; both
stream, and both give the sums by group, so that the jackknife costs almost nothing more. For centred X
(n × p) and Y (n × q), HSIC = ‖XᵀY‖² = Σ_ij (XXᵀ)_ij (YYᵀ)_ij (Kornblith et al. 2019); the formulas of
CKA itself stand in `kernel_sums`.
"""

import numpy as np

from realign.engine.progress import Progress
from realign.hrsa.centred import Layer, Side, tiles
from realign.hrsa.groups import Groups
from realign.hrsa.kernel_sums import CkaSums, GroupSums, KernelSums, sums_of_grams
from realign.hrsa.products import Products

HELD_BYTES = 1 << 30  # layers that the feature form holds; where three do not fit, they are read each time
GRAM_BYTES = 512 << 20  # Gram blocks of all layers that are held at a time


def cka_sums(left: Side, right: Side, groups: Groups, products: Products, form: str = "auto") -> CkaSums:
    """The sums behind linear CKA by whichever form does less work."""
    if form == "auto":
        form = "gram" if gram_is_cheaper(groups.tokens, left, right) else "features"
    make = gram_sums if form == "gram" else feature_sums
    return make(left, right, groups, products)


def gram_is_cheaper(tokens: int, left: Side, right: Side) -> bool:
    """Whether Gram blocks take fewer multiplications than feature products."""
    n, p, q, a, b = tokens, left.width, right.width, left.layers, right.layers
    gram = n * n * (a * p + b * q + a * b)
    features = 2 * n * (a * b * p * q + a * p * p + b * q * q)
    return gram < features


# --- Gram form ------------------------------------------------------------------------------------


def gram_sums(left: Side, right: Side, groups: Groups, products: Products) -> CkaSums:
    """All sums from Gram blocks, which all layers share."""
    layers = left.layers + right.layers
    item = products.dtype.itemsize
    size = int(np.sqrt(GRAM_BYTES / (2 * layers * item)))
    size = min(size, GRAM_BYTES // (2 * item * (left.layers * left.width + right.layers * right.width)))
    blocks = groups.blocks(max(16, size))
    starts = np.concatenate([[0], np.cumsum([b.size for b in blocks])])
    count, tokens = groups.count, groups.tokens
    # Σ K_ij L_ij by the groups of i and j, of the two models' layers and of each layer with itself
    across = np.zeros((count, count, left.layers, right.layers))
    own = [np.zeros((count, count, s.layers)) for s in (left, right)]
    rows = [np.zeros((s.layers, tokens, count)) for s in (left, right)]  # Σ_j K_ij by the group of j
    sides = (left, right)
    with Progress("Gram blocks", len(blocks) * (len(blocks) + 1) // 2, "blocks") as progress:
        for i, first in enumerate(blocks):
            mine = [s.stack(range(s.layers), first) for s in sides]
            here = slice(starts[i], starts[i + 1])
            for j, second in enumerate(blocks[: i + 1]):
                there = slice(starts[j], starts[j + 1])
                theirs = mine if i == j else [s.stack(range(s.layers), second) for s in sides]
                # (layers, rows of the first block, rows of the second)
                grams = [products.grams(a, b) for a, b in zip(mine, theirs, strict=True)]
                sums = products.gram_sums(grams[0], grams[1])
                g, h = first.group, second.group
                for _ in range(1 if i == j else 2):  # a block off the diagonal stands for its mirror too
                    across[g, h] += sums[0]
                    own[0][g, h] += sums[1]
                    own[1][g, h] += sums[2]
                    g, h = h, g
                for side, gram in enumerate(grams):
                    by_row, by_column = products.margins(gram)
                    rows[side][:, here, second.group] += by_row
                    if i != j:
                        rows[side][:, there, first.group] += by_column
                progress.advance()
    return CkaSums(*sums_of_grams(groups, across, own, rows), left.constant, right.constant)


# --- Feature form ---------------------------------------------------------------------------------


def feature_sums(left: Side, right: Side, groups: Groups, products: Products) -> CkaSums:
    """All sums from products of features, layer pair by layer pair."""
    across = _feature_pairs(left, right, groups, products)
    one, other = (_feature_pairs(s, s, groups, products, own=True) for s in (left, right))
    return CkaSums(across, one, other, left.constant, right.constant)


def _feature_pairs(a: Side, b: Side, groups: Groups, products: Products, own: bool = False) -> KernelSums:
    layer_bytes = groups.tokens * max(a.width, b.width) * products.dtype.itemsize
    size = HELD_BYTES // layer_bytes - 2  # beside the one that they meet, and what is read of a file
    result = KernelSums.of_shape(groups, *((a.layers,) if own else (a.layers, b.layers)))
    what = f"products of {a.name}" + ("" if own else f" and {b.name}")
    with Progress(what, a.layers * (1 if own else b.layers), "pairs") as progress:
        for tile in tiles(a.layers, max(1, size)):
            xs = {i: a.layer(i, groups, hold=size > 0) for i in tile}
            for j in tile if own else range(b.layers):
                y = xs[j] if own else b.layer(j, groups, hold=size > 0)
                for i in [j] if own else tile:
                    result.fill((i,) if own else (i, j), _pair_sums(xs[i], y, products), groups)
                    progress.advance()
    return result


def _pair_sums(x: Layer, y: Layer, products: Products) -> GroupSums:
    """The kernels' sums of one layer pair from sums of its features, all by group."""
    by_pairs, by_triples = products.feature_sums(x, y)
    return GroupSums(by_pairs, by_triples, x.sums @ x.sums.T, y.sums @ y.sums.T)
