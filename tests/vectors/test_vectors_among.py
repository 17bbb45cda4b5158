"""Each row's neighbours in its own matrix, against all scores in float64, with ties, on any device."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from realign.vectors import among, candidates, held
from realign.vectors.among import Among
from realign.vectors.exact import pair_scores
from realign.vectors.held import Held, pairwise_sum
from realign.vectors.limits import Limits
from realign.vectors.rows import Rows

METRICS = ("ip", "cosine", "l2")
KINDS = ("plain", "repeated", "scaled", "massive", "narrow", "grid", "bfloat16", "zeros")


def states(seed, rows, width, kind):
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((rows, width))
    if kind == "repeated":
        made = made[rng.integers(0, max(1, rows // 4), rows)]
    elif kind == "scaled":  # equal by the cosine, up to rounding
        made = made[rng.integers(0, max(1, rows // 4), rows)] * 3.0 ** rng.integers(-2, 3, (rows, 1))
    elif kind == "massive":  # a huge dimension, and now and then a row that is all of it
        made[:, 0] *= 100
        made[::50] *= 100
    elif kind == "narrow":
        made = 10 + 1e-4 * made
    elif kind == "grid":  # many exact ties between rows that differ
        made = np.round(made)
    elif kind == "bfloat16":
        made = torch.from_numpy(made).bfloat16().double().numpy()
    elif kind == "zeros":
        made[::3] = 0
    return made.astype(np.float32)


def all_scores(rows, metric):
    x = rows.astype(np.float64)
    norms = np.sqrt((x * x).sum(1))
    return np.stack(
        [pair_scores(query, x, metric, norm, norms) for query, norm in zip(x, norms, strict=True)]
    )


def expected(rows, k, metric):
    """The k best by score, and of equal ones the first."""
    scores = all_scores(rows, metric)
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, : min(k, len(rows) - 1)]


def lists(rows, k, metric, **options):
    search = Among(rows, k, metric, **options)
    found = np.full((len(rows), k), -2)
    for which, places in search.run():
        found[which] = places
    return found, search


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(candidates, "BLOCK", 24)


@pytest.fixture
def as_device(monkeypatch):
    """The processor as a device that is not the host: torch does what numpy does there."""
    for module in (held, candidates):
        monkeypatch.setattr(module, "is_host", lambda device: False)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 300),
    width=st.integers(1, 40),
    k=st.integers(1, 30),
    kind=st.sampled_from(KINDS),
    metric=st.sampled_from(METRICS),
)
def test_equals_all_scores(seed, rows, width, k, kind, metric):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "BLOCK", 24)
        made = states(seed, rows, width, kind)
        found, _ = lists(made, k, metric)
        there = min(k, rows - 1)
        np.testing.assert_array_equal(found[:, :there], expected(made, k, metric))
        assert (found[:, there:] == -1).all()


@pytest.mark.parametrize("metric", METRICS)
def test_ties_at_the_last_place_go_to_the_earlier_row(metric, small_blocks):
    """Each row ties with hundreds of others at each place, far more than are put in order."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(
        np.eye(12, dtype=np.float32)[np.arange(600) % 12] + np.arange(600)[:, None] // 12 % 2
    )
    for k in (3, 7, 45):
        np.testing.assert_array_equal(lists(rows, k, metric)[0], expected(rows, k, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_lie_within_their_limits(metric, kind):
    made = states(3, 400, 24, kind)
    rows = Held(Rows(made), torch.device("cpu"))
    limits = Limits(rows, metric)
    scores = all_scores(made[limits.order.numpy()], metric) / (2 if metric == "l2" else 1)
    everything = torch.arange(400)
    upper = limits.upper(everything, slice(0, 400))
    lower = limits.lower(everything, everything.expand(400, -1), upper).numpy()
    # limits are those of scores less some constant
    assert (scores - upper.numpy()).max() <= (scores - lower).min()


def test_float64_decides_few_and_no_row_is_searched_in_vain(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3000, 64), np.float32) + rng.standard_normal((30, 64), np.float32).repeat(
        100, 0
    )
    monkeypatch.setattr(among, "Search", lambda *_, **__: pytest.fail("not needed"))
    _, search = lists(rows, 50, "cosine")
    assert 0 < search.rescored < 0.05 * 3000 * 50


def test_half_of_the_products_are_formed(monkeypatch):
    formed = []
    upper = Limits.upper

    def counted(self, these, those):
        tile = upper(self, these, those)
        formed.append(tile.numel())
        return tile

    monkeypatch.setattr(Limits, "upper", counted)
    monkeypatch.setattr(candidates, "BLOCK", 100)
    lists(states(0, 2000, 16, "plain"), 20, "cosine")
    assert sum(formed) < 0.6 * 2000**2


def test_threads_do_not_change_a_bit(small_blocks):
    made, before = states(0, 300, 16, "massive"), torch.get_num_threads()
    one, _ = lists(made, 20, "cosine")
    try:
        torch.set_num_threads(2)
        np.testing.assert_array_equal(lists(made, 20, "cosine")[0], one)
    finally:
        torch.set_num_threads(before)


def test_rows_too_large_for_float32_are_searched_in_float64():
    made = states(0, 60, 8, "plain").astype(np.float64) * 1e30
    np.testing.assert_array_equal(lists(made, 5, "l2")[0], expected(made, 5, "l2"))


@pytest.mark.parametrize(
    "width", [1, 7, 8, 9, 127, 128, 129, 135, 136, 137, 255, 257, 384, 512, 896, 1000, 1031]
)
def test_a_device_sums_as_numpy_does(width):
    made = np.random.default_rng(width).standard_normal((50, width)) * 10.0 ** np.arange(50)[:, None]
    np.testing.assert_array_equal(pairwise_sum(torch.from_numpy(made)).numpy(), made.sum(1))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_device_finds_the_same(metric, kind, small_blocks, as_device):
    made = states(1, 300, 20, kind)
    np.testing.assert_array_equal(lists(made, 15, metric, device="cpu")[0], expected(made, 15, metric))


def test_a_device_gets_the_rows_once_and_gives_the_answer_alone(monkeypatch, small_blocks, as_device):
    """What crosses between host and device, in bytes: `up` is the way there, `numpy` the way back."""
    moved = {"up": 0, "down": 0}
    up, numpy = Held.up, torch.Tensor.numpy

    def counted_up(self, values):
        moved["up"] += values.nbytes
        return up(self, values)

    def counted_down(self, **options):
        moved["down"] += self.nbytes
        return numpy(self, **options)

    monkeypatch.setattr(Held, "up", counted_up)
    monkeypatch.setattr(torch.Tensor, "numpy", counted_down)
    made, k = states(0, 1000, 64, "plain"), 20
    lists(made, k, "cosine", device="cpu")
    assert moved["up"] == made.nbytes + 2 * 8 * 1000  # their lengths, and their order
    assert moved["down"] == 8 * 1000 * (1 + 2 * (k + 1))  # their numbers, and places and ranks


@pytest.mark.gpu
@pytest.mark.parametrize("metric", METRICS)
def test_a_gpu_finds_the_same(metric):
    made = states(0, 5000, 96, "massive")
    on_cpu, on_gpu = (lists(made, 30, metric, device=device)[0] for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(on_cpu, on_gpu)
