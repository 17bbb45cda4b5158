"""Linear CKA of all pairs of layers: biased (as published) and debiased, with groups left out.

HSIC needs only a few sums over pairs of tokens. With many tokens they come from the features
(D × D products, layer pair by layer pair), with fewer from Gram blocks that all layers share; both
stream, and both give the sums by group, so that the jackknife costs almost nothing more.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from realign.engine.progress import Progress
from realign.hrsa.centred import Side, rows_at_once, tiles
from realign.hrsa.groups import Groups
from realign.hrsa.kernel_sums import CkaSums, KernelSums, sums_of_grams
from realign.hrsa.products import Products
from realign.hrsa.reading import Array

TILE_BYTES = 1 << 30  # sums by group that the feature form holds at a time
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
    of_row = np.repeat([b.group for b in blocks], [b.size for b in blocks])
    count, tokens = groups.count, groups.tokens
    across = np.zeros((count, count, left.layers, right.layers))
    own = [np.zeros((count, count, s.layers)) for s in (left, right)]
    rows = [np.zeros((s.layers, tokens, count)) for s in (left, right)]
    diagonals = [np.zeros((s.layers, tokens)) for s in (left, right)]
    sides = (left, right)
    with Progress("Gram blocks", len(blocks) * (len(blocks) + 1) // 2, "blocks") as progress:
        for i, first in enumerate(blocks):
            mine = [s.stack(range(s.layers), first) for s in sides]
            here = slice(starts[i], starts[i + 1])
            for j, second in enumerate(blocks[: i + 1]):
                there = slice(starts[j], starts[j + 1])
                theirs = mine if i == j else [s.stack(range(s.layers), second) for s in sides]
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
                    else:
                        diagonals[side][:, here] = _diagonals(gram)
                progress.advance()
    kernels = sums_of_grams(groups, of_row, across, own, rows, diagonals)
    return CkaSums(*kernels, left.constant, right.constant)


def _diagonals(gram: Any) -> Array:
    if isinstance(gram, np.ndarray):
        return gram.diagonal(axis1=1, axis2=2)
    return gram.diagonal(dim1=1, dim2=2).double().cpu().numpy()


# --- Feature form ---------------------------------------------------------------------------------


def feature_sums(left: Side, right: Side, groups: Groups, products: Products) -> CkaSums:
    """All sums from products of features, layer pair by layer pair."""
    across = _feature_pairs(left, right, groups, products)
    one, other = (_feature_pairs(s, s, groups, products, own=True) for s in (left, right))
    return CkaSums(across, one, other, left.constant, right.constant)


def _feature_pairs(a: Side, b: Side, groups: Groups, products: Products, own: bool = False) -> KernelSums:
    pair_bytes = groups.count * a.width * b.width * products.dtype.itemsize
    size = max(1, int(np.sqrt(TILE_BYTES / pair_bytes))) if not own else max(1, TILE_BYTES // pair_bytes)
    shape = (len(groups.lost), a.layers) if own else (len(groups.lost), a.layers, b.layers)
    result = KernelSums(groups.left_out, *(np.zeros(shape) for _ in fields(KernelSums)[1:]))
    what = f"products of {a.name}" + ("" if own else f" and {b.name}")
    with Progress(what, a.layers * (1 if own else b.layers), "pairs") as progress:
        for left_tile in tiles(a.layers, size):
            for right_tile in [left_tile] if own else tiles(b.layers, size):
                pairs = [(i, j) for i in left_tile for j in right_tile if i == j or not own]
                for (i, j), sums in zip(pairs, _tile(a, b, pairs, groups, products), strict=True):
                    where = (slice(None), i) if own else (slice(None), i, j)
                    for name, value in sums.items():
                        getattr(result, name)[where] = value
                progress.advance(len(pairs))
    return result


@dataclass
class _PairSums:
    """One layer pair's sums by group, of centred x and y."""

    cross: Array  # Σ x yᵀ
    weighted_left: Array  # Σ |y|² x
    weighted_right: Array  # Σ |x|² y
    squares: Array  # Σ |x|² |y|²
    left_squares: Array  # Σ |x|²
    right_squares: Array  # Σ |y|²


def _tile(
    a: Side, b: Side, pairs: list[tuple[int, int]], groups: Groups, products: Products
) -> list[dict[str, Array]]:
    g, p, q = groups.count, a.width, b.width
    sums = [
        _PairSums(np.zeros((g, p, q), products.dtype), np.zeros((g, p)), np.zeros((g, q)), *np.zeros((3, g)))
        for _ in pairs
    ]
    for block in groups.blocks(rows_at_once(max(p, q), 4)):
        xs = {i: a.read(i, block) for i, _ in pairs}
        ys = xs if a is b else {j: b.read(j, block) for _, j in pairs}
        left = {i: np.einsum("ij,ij->i", x, x, dtype=np.float64) for i, x in xs.items()}
        right = left if a is b else {j: np.einsum("ij,ij->i", y, y, dtype=np.float64) for j, y in ys.items()}
        for (i, j), s in zip(pairs, sums, strict=True):
            s.cross[block.group] += products.cross(xs[i], ys[j])
            s.weighted_left[block.group] += right[j] @ xs[i]
            s.weighted_right[block.group] += left[i] @ ys[j]
            s.squares[block.group] += left[i] @ right[j]
            s.left_squares[block.group] += left[i].sum()
            s.right_squares[block.group] += right[j].sum()
    return [
        _from_features(s, a.sums[:, i], b.sums[:, j], groups) for (i, j), s in zip(pairs, sums, strict=True)
    ]


def _from_features(s: _PairSums, sum_left: Array, sum_right: Array, groups: Groups) -> dict[str, Array]:
    """The kernels' sums of one layer pair from sums of its features."""
    x, y = groups.leave_out(sum_left), groups.leave_out(sum_right)
    total = s.cross.sum(0, dtype=np.float64)
    rows = np.einsum("gi,gi->g", x @ total, y)
    for i, lost in enumerate(groups.lost):
        rows[i] -= sum(x[i] @ (s.cross[group] @ y[i]) for group in lost)
    totals = (x * x).sum(1), (y * y).sum(1)
    traces = groups.leave_out(s.left_squares), groups.leave_out(s.right_squares)
    return {
        "products": groups.leave_out_pairs(_inner(s.cross)),
        "rows": rows,
        "diagonals": groups.leave_out(s.squares),
        "diagonal_rows": np.einsum("gi,gi->g", groups.leave_out(s.weighted_right), y),
        "rows_diagonal": np.einsum("gi,gi->g", groups.leave_out(s.weighted_left), x),
        "totals": totals[0] * totals[1],
        "off_diagonal_totals": (totals[0] - traces[0]) * (totals[1] - traces[1]),
    }


def _inner(cross: Array) -> Array:
    """Inner products of the groups' matrices, summed in float64 whatever they are held in."""
    flat = cross.reshape(len(cross), -1)
    inner = np.zeros((len(cross), len(cross)))
    for part in tiles(flat.shape[1], 1 << 18):
        piece = flat[:, part.start : part.stop].astype(np.float64, copy=False)
        inner += piece @ piece.T
    return inner
