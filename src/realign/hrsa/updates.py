"""The update of one tensor: its size, sparsity and rank, and how it lies to what was there before.

A is the tensor before, B after, D = B − A the update; A = U S Vᵀ. Of a matrix the k largest singular
values are taken with their directions: exactly where the smaller side is short, else from a random sketch
with power iterations (Halko, Martinsson and Tropp, arXiv 0909.4061).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import subspace_angles

from realign.hrsa.folders import blocks
from realign.hrsa.tensor_sums import Ratio
from realign.seeds import derive_seed

LEVELS = 2**15  # magnitudes that bfloat16 can tell apart
ITERATIONS = 4  # power iterations of a sketch
Array = np.ndarray


@dataclass(frozen=True)
class Spectrum:
    """The largest singular values of a matrix (k), their directions (m×k, n×k), and Σσ², Σσ⁴ of all."""

    u: torch.Tensor
    s: torch.Tensor
    v: torch.Tensor
    square: float
    fourth: float


def bf16_bits(values: torch.Tensor) -> torch.Tensor:
    """The sixteen bits of each value rounded to bfloat16."""
    return values.to(torch.bfloat16).view(torch.int16)


def entrywise(a: torch.Tensor, b: torch.Tensor, tolerance: float, largest: float) -> dict[str, Ratio]:
    """Size and sparsity of the update, and its share on the largest entries of A.

    - update_norm: |D|² and |A|²
    - update_sparsity: entries whose bits in bfloat16 do not change (the probe of arXiv 2511.08567), that
      are equal as stored, and that move by no more than a tolerance (1e-5 in arXiv 2505.11711)
    - update_on_largest, of matrices: the share of Σ D² on the given share of entries with the largest |A|.
      Magnitudes are told apart as bfloat16 does; the level that the share ends in counts in part.
    """
    square, before, same_bits, equal, near = 0.0, 0.0, 0, 0, 0
    counts = torch.zeros(LEVELS, dtype=torch.float64, device=a.device)
    energy = torch.zeros_like(counts)
    for rows in blocks(a.shape):
        x, y = a[rows].reshape(-1), b[rows].reshape(-1)
        bits = bf16_bits(x)
        same_bits += int((bits == bf16_bits(y)).sum())
        equal += int((x == y).sum())
        x, y = x.float(), y.float()
        d = y - x
        near += int((d.abs() <= tolerance).sum())
        before += float(x.square().sum(dtype=torch.float64))
        d = d.double().square()
        square += float(d.sum())
        magnitude = (bits & 0x7FFF).int()
        counts += torch.bincount(magnitude, minlength=LEVELS)
        energy += torch.bincount(magnitude, d, minlength=LEVELS)
    n = a.numel()
    found = {
        "update_norm.norm": Ratio(square, before),
        "update_sparsity.bf16": Ratio(same_bits, n),
        "update_sparsity.stored": Ratio(equal, n),
        "update_sparsity.tolerance": Ratio(near, n),
    }
    if a.ndim > 1 and square > 0:
        on_largest = _on_largest(counts.flip(0), energy.flip(0), largest * n)
        found["update_on_largest.share"] = Ratio(on_largest / square)
    return found


def _on_largest(counts: torch.Tensor, energy: torch.Tensor, wanted: float) -> float:
    """The energy on the first so many entries, from counts and energies by falling magnitude."""
    taken = (wanted - (counts.cumsum(0) - counts)).clamp(min=0).minimum(counts)
    return float((energy * taken / counts.clamp(min=1)).sum())


def spectrum(x: torch.Tensor, top: int, exact: int, seed: int) -> Spectrum:
    """The `top` largest singular values and directions of a matrix (m×n), and sums over all of them.

    Of a sketch Σσ⁴ = |XᵀX|² is that of the directions found and, for the rest R = X − U Uᵀ X, the mean of
    |RᵀR g|² over random g (Hutch++, arXiv 2010.09649).
    """
    if min(x.shape) <= exact:
        u, s, vt = torch.linalg.svd(x.double(), full_matrices=False)
        squares = s.square()
        return Spectrum(u[:, :top], s[:top], vt[:top].T, float(squares.sum()), float(squares.square().sum()))
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(seed)
        u, s, v = torch.svd_lowrank(x, 2 * top, ITERATIONS)
        probes = torch.randn(x.shape[1], 2 * top, device=x.device)
    y = x @ probes
    y -= u @ (u.T @ y)
    rest = float((x.T @ y).square().sum(dtype=torch.float64)) / probes.shape[1]
    square = float(sum(x[rows].square().sum(dtype=torch.float64) for rows in blocks(x.shape)))
    fourth = float(s.double().pow(4).sum()) + rest
    u, s, v = (t.double() for t in (u[:, :top], s[:top], v[:, :top]))
    return Spectrum(u, s, v, square, fourth)


def matrixwise(
    a: torch.Tensor, b: torch.Tensor, top: int, exact: int, seed: int
) -> Iterator[tuple[str, Ratio, int | None]]:
    """Rank and spectrum of a matrix's update, and how it lies to the principal directions of A.

    - update_rank: (Σσ²)²/Σσ⁴ and Σσ²/σ₁² of D, the first also as a share of the smaller side
    - update_spectrum: the share σᵢ²/Σσ² of D's i-th direction, and of the k largest together
    - singular_values: |S_B − S_A| / |S_A| over the k largest
    - subspace_angles: principal angles in radians between the k left directions of A and of B, and the right
    - principal_energy: |UᵀDV|², |UᵀD|² and |DV|² over |D|² with the k principal directions of A, and the
      first as a multiple of k²/(mn), which is what an update without direction has (arXiv 2511.08567)

    A matrix of zeros has no directions and no size to compare with: what needs them is left out.
    The update is made in the place of B, since memory is bounded by the largest tensor.
    """
    m, n = a.shape
    k = min(top, max(1, min(m, n) // 4))
    before = spectrum(a.float(), k, exact, derive_seed(seed, "before"))
    # The same sketch of both, so that equal matrices have equal directions.
    after = spectrum(b.float(), k, exact, derive_seed(seed, "before"))
    sides = (("left", before.u, after.u), ("right", before.v, after.v))
    if before.square > 0:
        yield "singular_values.change", Ratio(float((after.s - before.s).norm() / before.s.norm())), None
    for side, x, y in sides if before.square > 0 and after.square > 0 else ():
        angles = subspace_angles(x.cpu().numpy(), y.cpu().numpy())
        yield f"subspace_angles.{side}", Ratio(float(angles.mean())), None
        yield f"subspace_angles.{side}_largest", Ratio(float(angles.max())), None
        yield "subspace_angles.mean", Ratio(float(angles.mean())), None
    d = b.float()  # B itself where it is stored so
    for rows in blocks(d.shape):  # of mixed precisions the whole would be copied once more
        d[rows] -= a[rows]
    moved = spectrum(d, k, exact, derive_seed(seed, "update"))
    if moved.square == 0:
        return
    effective = moved.square**2 / moved.fourth
    yield "update_rank.share", Ratio(effective / min(m, n)), None
    yield "update_rank.effective", Ratio(effective), None
    yield "update_rank.stable", Ratio(moved.square / float(moved.s[0]) ** 2), None
    for i, value in enumerate(moved.s):
        yield "update_spectrum.share", Ratio(float(value) ** 2 / moved.square), i + 1
    yield "update_spectrum.top", Ratio(float(moved.s.square().sum()) / moved.square), None
    if before.square == 0:
        return
    u, v = before.u.to(d.dtype), before.v.to(d.dtype)
    onto_u, onto_v = u.T @ d, d @ v
    for statistic, projected in (("inside", onto_u @ v), ("left", onto_u), ("right", onto_v)):
        share = float(projected.double().square().sum()) / moved.square
        yield f"principal_energy.{statistic}", Ratio(share), None
        if statistic == "inside":
            yield "principal_energy.times_chance", Ratio(share, k**2 / (m * n)), None
