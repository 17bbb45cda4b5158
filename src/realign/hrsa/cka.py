"""Linear CKA of all pairs of layers: biased (as published) and debiased, with groups left out.

HSIC needs only a few sums over pairs of tokens. With many tokens they come from the features
(D × D products, layer pair by layer pair), with fewer from Gram blocks that all layers share; both
stream, and both give the sums by group, so that the jackknife costs almost nothing more. For centred X
(n × p) and Y (n × q), HSIC = ‖XᵀY‖² = Σ_ij (XXᵀ)_ij (YYᵀ)_ij (Kornblith et al. 2019); the formulas of
CKA itself stand in `kernel_sums`.
"""

import numpy as np

from realign.engine.progress import Progress
from realign.hrsa.centred import MOST_ROWS, Features, Side, tiles
from realign.hrsa.correlation import Correlation
from realign.hrsa.groups import Block, Groups
from realign.hrsa.kernel_sums import CkaSums, GroupSums, KernelSums, sums_of_grams
from realign.hrsa.products import Products
from realign.hrsa.reading import Array

STACK_BYTES = 768 << 20  # values of all layers that the Gram form holds at a time


def cka_sums(
    left: Side,
    right: Side,
    groups: Groups,
    products: Products,
    form: str = "auto",
    correlation: Correlation | None = None,
) -> CkaSums:
    """The sums behind linear CKA by whichever form does less work; `correlation` is filled on the way."""
    if form == "auto":
        form = "gram" if gram_is_cheaper(groups.tokens, left, right) else "features"
    if form == "features":
        return feature_sums(left, right, groups, products, correlation)
    if correlation is not None:
        correlation.read(products)
    return gram_sums(left, right, groups, products)


def gram_is_cheaper(tokens: int, left: Side, right: Side) -> bool:
    """Whether Gram blocks take fewer multiplications than feature products."""
    n, p, q, a, b = tokens, left.width, right.width, left.layers, right.layers
    gram = n * n * (a * p + b * q + a * b)
    features = 2 * n * (a * b * p * q + a * p * p + b * q * q)
    return gram < features


# --- Gram form ------------------------------------------------------------------------------------


def gram_sums(left: Side, right: Side, groups: Groups, products: Products) -> CkaSums:
    """All sums from Gram blocks, which all layers share."""
    sides, count = (left, right), groups.count
    row_bytes = products.dtype.itemsize * sum(s.layers * s.width for s in sides)
    limit = max(16, min(MOST_ROWS, STACK_BYTES // (4 * row_bytes)))
    blocks = groups.blocks(limit)
    # Σ K_ij L_ij by the groups of i and j, of the two models' layers and of each layer with itself
    across = np.zeros((count, count, left.layers, right.layers))
    own = [np.zeros((count, count, s.layers)) for s in sides]
    # Σ_j K_ij = x_i·Σ_j x_j by the group of j
    rows = [np.zeros((s.layers, groups.tokens, count)) for s in sides]

    def stacks(block: Block) -> list[Array]:
        return [s.stack(range(s.layers), block.rows) for s in sides]

    with Progress("Gram blocks", len(blocks) * (len(blocks) + 1) // 2, "blocks") as progress:
        # as many blocks as may be are held, and meet each other and every one that comes after them
        for tile in tiles(len(blocks), max(1, STACK_BYTES // (limit * row_bytes) - 1)):
            held = {}
            for i in tile:
                values = stacks(blocks[i])
                held[i] = [products.hold(v) for v in values]
                for side, x, of_side in zip(sides, values, rows, strict=True):
                    for layer in range(side.layers):
                        of_side[layer, blocks[i].rows] = x[layer].astype(np.float64) @ side.sums[:, layer].T
            for j in range(tile.start, len(blocks)):
                second = held[j] if j in held else [products.hold(v) for v in stacks(blocks[j])]
                for i in (i for i in tile if i <= j):
                    found = products.gram_sums(held[i], second)
                    g, h = blocks[i].group, blocks[j].group
                    for _ in range(1 if i == j else 2):  # a block off the diagonal stands for its mirror too
                        for sums, of_block in zip((across, *own), found, strict=True):
                            sums[g, h] += of_block
                        g, h = h, g
                    progress.advance()
    return CkaSums(*sums_of_grams(groups, across, own, rows), left.constant, right.constant)


# --- Feature form ---------------------------------------------------------------------------------


def feature_sums(
    left: Side, right: Side, groups: Groups, products: Products, correlation: Correlation | None = None
) -> CkaSums:
    """All sums from products of features, layer pair by layer pair; diagonals are correlation's."""
    across = KernelSums.of_shape(groups, left.layers, right.layers)
    own = [KernelSums.of_shape(groups, side.layers) for side in (left, right)]

    def fill(sums: KernelSums, at: tuple[int, ...], x: Features, y: Features) -> Array:
        found = products.feature_sums(x, y)
        totals = x.sums @ x.sums.T, y.sums @ y.sums.T
        sums.fill(at, GroupSums(found.pairs, found.triples, *totals), groups)
        progress.advance()
        return found.by_dimension

    # beside those that are held there are the one that they meet and what is read of a file
    size = min(left.layers_at_once, right.layers_at_once) - 2
    pairs = left.layers * right.layers + left.layers + right.layers
    with Progress("products of features", pairs, "pairs") as progress:
        for tile in tiles(left.layers, max(1, size)):
            xs = {i: Features(left, i) for i in tile}
            for i, x in xs.items():
                fill(own[0], (i,), x, x)
            for j in range(right.layers):
                y = Features(right, j)
                if tile.start == 0:
                    fill(own[1], (j,), y, y)
                for i, x in xs.items():
                    by_dimension = fill(across, (i, j), x, y)
                    if correlation is not None:
                        correlation.fill(i, j, by_dimension)
    return CkaSums(across, own[0], own[1], left.constant, right.constant)
