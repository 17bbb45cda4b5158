"""The fast first pass of a search: low-precision products of whole blocks, and how wrong they can be.

Every query keeps its best few candidates of a coarse product (bfloat16, float32 or float64 by
whatever the processor multiplies fastest), together with a bound that no row left out can exceed.
The search then decides in float64 and uses the bound to know that nothing was missed.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from realign.vectors.exact import Metric
from realign.vectors.rows import Floats, Rows

# Inner products accumulate rounding errors like a random walk; eight standard deviations of one
# are never seen (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis").
DEVIATIONS = 8.0
UNIT = {torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24, torch.float64: 2.0**-53}
LONGEST = 1e18  # rows longer than this have products that float32 cannot hold
# Rows of a tile that lie a power of two apart fall into the same few lines of a processor's cache,
# and the product then takes half as long again; some values that nobody reads keep them apart.
PADDING = 16
# Columns of a tile on a processor: small enough that the next look at them finds them in its cache.
TILE = 4096


@dataclass(frozen=True)
class Found:
    """A block of queries' coarse candidates, in no order, and what a row left out can be at most."""

    places: np.ndarray  # (queries, width), -1 where there are fewer rows than asked
    worth: Floats  # upper limit of each candidate's true score
    least: Floats  # lower limit of each candidate's true score
    unseen: Floats  # upper limit of the true score of everything else


class Scan:
    """A corpus prepared for coarse products of one precision on one device."""

    def __init__(
        self,
        corpus: Rows,
        norms: Floats,
        metric: Metric,
        precision: torch.dtype,
        device: torch.device,
        block: int,
        keep_bytes: float,
    ):
        self.corpus, self.norms, self.metric = corpus, norms, metric
        self.precision, self.device = precision, device
        self.block = min(block, TILE) if device.type == "cpu" else block
        size = len(corpus) * corpus.width * precision.itemsize
        self._kept: dict[int, _Block] | None = {} if size <= keep_bytes else None
        self._lock = threading.Lock()
        self._mean = _mean(corpus, norms, metric)

    def search(self, queries: Floats, norms: Floats, width: int, ceilings: Floats | None = None) -> Found:
        """The `width` best rows of the corpus for each query, coarsely.

        Rows that surely score more than the query's ceiling are left out: their worth is -inf.
        """
        prepared = self._prepare_queries(queries, norms)
        rounded = prepared.to(self.precision)
        widened = rounded.double()
        best = _Best(len(queries), min(width, len(self.corpus)), self.precision, self.device)
        on_device = rounded.to(self.device)
        above = self._too_high(prepared, ceilings)
        longest = most_lost = largest_bias = 0.0
        held = on_device.new_empty((len(queries), min(self.block, len(self.corpus)) + PADDING))
        for start in range(0, len(self.corpus), self.block):
            block = self._block(start)
            longest, most_lost = max(longest, block.longest), max(most_lost, block.most_lost)
            largest_bias = max(largest_bias, block.largest_bias)
            tile = torch.mm(on_device, block.rows.T, out=held[:, : len(block.rows)])
            if block.bias is not None:
                tile -= block.bias
            if above is not None:
                tile.masked_fill_(tile > above, -torch.inf)
            best.absorb(tile, start)
        best.settle()
        values, places = best.values.double().cpu().numpy(), best.places.cpu().numpy()
        lengths = torch.linalg.vector_norm(widened, dim=1).numpy()
        lost = torch.linalg.vector_norm(prepared - widened, dim=1).numpy()
        unit = UNIT[self.precision]
        sum_unit = min(UNIT[torch.float32], unit) if self.precision == torch.float64 else UNIT[torch.float32]
        error = lost * (longest + most_lost) + lengths * most_lost
        error += DEVIATIONS * np.sqrt(self.corpus.width + 1) * sum_unit * lengths * (longest + most_lost)
        error += 2.02 * unit * largest_bias
        return self._bounds(values, places, error, prepared.numpy())

    def _bounds(self, values: Floats, places: np.ndarray, error: Floats, prepared: Floats) -> Found:
        """Coarse values as limits of true scores: what was taken off is put back, with the error."""
        if self.metric == "l2":
            scale, offset = 2.0, -np.sum(prepared * prepared, axis=1)
        else:
            # numpy's own product would wake threads of its own
            scale, offset = 1.0, (torch.from_numpy(prepared) @ torch.from_numpy(self._mean)).numpy()
        rounding = (2.02 if self.metric == "l2" else 1.01) * UNIT[self.precision]
        slack = error[:, None] + rounding * np.abs(values)
        slack += 1e-13 * (np.abs(offset)[:, None] + np.abs(values))  # of the float64 sums themselves
        slack[np.isneginf(values)] = 0.0  # what was left out is worth nothing
        complete = values.shape[1] == len(self.corpus)
        unseen = np.full(len(values), -np.inf) if complete else (values + slack).min(axis=1)
        return Found(
            places,
            offset[:, None] + scale * (values + slack),
            offset[:, None] + scale * (values - slack),
            offset + scale * unseen,
        )

    def _too_high(self, prepared: torch.Tensor, ceilings: Floats | None) -> torch.Tensor | None:
        """For each query, a coarse product above which the true score is above its ceiling (not for l2)."""
        if ceilings is None:
            return None
        unit = UNIT[self.precision]
        longest = 1.0 if self.metric == "cosine" else float(self.norms.max(initial=0.0))
        longest += float(np.linalg.norm(self._mean))
        # The error of `search` from its largest parts: how both sides, the sums and the product are rounded.
        relative = 4 * unit + 1.1 * DEVIATIONS * np.sqrt(self.corpus.width + 1) * min(
            unit, UNIT[torch.float32]
        )
        error = relative * longest * torch.linalg.vector_norm(prepared, dim=1)
        limits = torch.from_numpy(ceilings) - prepared @ torch.from_numpy(self._mean) + error
        limits += 2 * unit * limits.abs() + 1e-12
        return limits[:, None].to(self.precision).to(self.device)

    def _prepare_queries(self, queries: Floats, norms: Floats) -> torch.Tensor:
        if self.metric == "cosine":
            return torch.from_numpy(_unit(queries, norms))
        return torch.from_numpy(queries - self._mean if self.metric == "l2" else queries.copy())

    def _block(self, start: int) -> "_Block":
        if self._kept is None:
            return self._make_block(start)
        with self._lock:
            if start not in self._kept:
                self._kept[start] = self._make_block(start)
            return self._kept[start]

    def _make_block(self, start: int) -> "_Block":
        stop = min(start + self.block, len(self.corpus))
        rows = self.corpus.read(slice(start, stop))
        if self.metric == "cosine":
            rows = _unit(rows, self.norms[start:stop])
        exact = torch.from_numpy(rows - self._mean)
        rounded = exact.to(self.precision)
        bias, largest = None, 0.0
        if self.metric == "l2":
            half = (exact**2).sum(dim=1) / 2
            bias, largest = half.to(self.precision).to(self.device), float(half.max())
        return _Block(
            rounded.to(self.device),
            bias,
            float(torch.linalg.vector_norm(exact, dim=1).max()),
            float(torch.linalg.vector_norm(exact - rounded.double(), dim=1).max()),
            largest,
        )


@dataclass(frozen=True)
class _Block:
    """Some rows of a corpus, rounded, with the largest length and the largest loss among them."""

    rows: torch.Tensor
    bias: torch.Tensor | None
    longest: float
    most_lost: float
    largest_bias: float


class _Best:
    """The best candidates so far of a block of queries, in no order."""

    def __init__(self, queries: int, width: int, precision: torch.dtype, device: torch.device):
        kept = torch.float64 if precision == torch.float64 else torch.float32
        self.values = torch.empty((queries, 0), dtype=kept, device=device)
        self.places = torch.empty((queries, 0), dtype=torch.int64, device=device)
        self.width = width
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._threshold = self.values

    def absorb(self, tile: torch.Tensor, start: int) -> None:
        """Take from a tile of products what is better than what is held."""
        new = self._few_better(tile) if tile.device.type == "cpu" else None
        values, columns = new if new is not None else _largest(tile, self.width)
        self._waiting.append((values.to(self.values.dtype), columns + start))
        if self.values.shape[1] < self.width or sum(v.shape[1] for v, _ in self._waiting) >= self.width:
            self.settle()

    def settle(self) -> None:
        """Merge what was taken since the last time."""
        values = torch.cat([self.values, *(v for v, _ in self._waiting)], dim=1)
        places = torch.cat([self.places, *(p for _, p in self._waiting)], dim=1)
        self._waiting = []
        self.values, order = _largest(values, self.width)
        self.places = places.gather(1, order)
        self._threshold = self.values.min(dim=1, keepdim=True).values

    def _few_better(self, tile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The values above each row's threshold, padded to the widest row; nothing if they are many.

        After a few tiles almost nothing passes the threshold, and finding that out costs a fraction
        of selecting from the whole tile.
        """
        if self.values.shape[1] < self.width:
            return None
        flat = np.flatnonzero(_above(tile, self._threshold.to(tile.dtype)))
        rows, columns = np.divmod(flat, tile.shape[1])
        counts = np.bincount(rows, minlength=len(tile))
        widest = int(counts.max())
        if widest > 4 * self.width:
            return None
        within = np.arange(len(flat)) - (np.cumsum(counts) - counts)[rows]
        where = (torch.from_numpy(rows), torch.from_numpy(within))
        values = torch.full((len(tile), widest), -torch.inf, dtype=tile.dtype)
        places = torch.zeros((len(tile), widest), dtype=torch.int64)
        values[where] = tile[where[0], torch.from_numpy(columns)]
        places[where] = torch.from_numpy(columns)
        return values, places


def _largest(values: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's largest values and their columns, in no order."""
    count = values.shape[1]
    if count <= width:
        return values, torch.arange(count, device=values.device).expand(len(values), -1)
    if values.device.type != "cpu":
        largest = values.topk(width, dim=1, sorted=False)
        return largest.values, largest.indices
    # numpy selects several times faster than torch
    held = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    # It finds the least value of the best much faster than their columns.
    least = np.partition(held, count - width, axis=1)[:, count - width, None]
    flat = np.flatnonzero(held >= least)
    if len(flat) == len(held) * width:
        columns = torch.from_numpy((flat % count).reshape(len(held), width))
    else:  # equal values at the border
        columns = torch.from_numpy(np.argpartition(held, count - width, axis=1)[:, count - width :])
    return values.gather(1, columns), columns


def _above(tile: torch.Tensor, thresholds: torch.Tensor) -> np.ndarray:
    """Which values exceed their row's threshold; numpy compares several times faster than torch."""
    if tile.dtype != torch.bfloat16:
        return tile.numpy() > thresholds.numpy()
    if bool((thresholds > 0).all()):  # the bits of floats above zero order like integers
        return tile.view(torch.int16).numpy() > thresholds.contiguous().view(torch.int16).numpy()
    return (tile > thresholds).numpy()


def _unit(rows: Floats, norms: Floats) -> Floats:
    """Rows at length one; those of length zero stay."""
    return rows / np.where(norms > 0, norms, 1.0)[:, None]


def _mean(corpus: Rows, norms: Floats, metric: Metric) -> Floats:
    """The mean row. Taken off the corpus it changes no ranking, and low precision loses less."""
    total = np.zeros(corpus.width)
    for start, chunk in corpus.chunks():
        total += (_unit(chunk, norms[start : start + len(chunk)]) if metric == "cosine" else chunk).sum(0)
    return total / max(1, len(corpus))


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Products summed in float32: a training may have allowed less in this process."""
    before = torch.get_float32_matmul_precision()
    cuda = torch.backends.cuda.matmul
    reduced = cuda.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    cuda.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        cuda.allow_bf16_reduced_precision_reduction = reduced


def fast_precision(device: torch.device) -> torch.dtype:
    """The precision that this device multiplies fastest and that is still worth starting with."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return torch.bfloat16 if native is not None and native() else torch.float32
