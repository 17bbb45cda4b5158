"""The search against brute force, and the same answer whatever way it is computed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from realign.vectors import search as search_module
from realign.vectors.exact import pair_scores
from realign.vectors.rows import Rows, find_distinct
from realign.vectors.scan import Scan
from realign.vectors.search import Search, top_k

METRICS = ("ip", "cosine", "l2")


def brute_force(queries, corpus, k, metric):
    """Every score by the definition, ordered by score and index."""
    q, c = queries.astype(np.float64), corpus.astype(np.float64)
    pairs = -((q[:, None] - c[None]) ** 2) if metric == "l2" else q[:, None] * c[None]
    scores = pairs.sum(-1)
    if metric == "cosine":
        lengths = np.sqrt((q * q).sum(1))[:, None] * np.sqrt((c * c).sum(1))[None]
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    order = np.stack([np.lexsort((np.arange(len(c)), -row))[:k] for row in scores])
    return np.take_along_axis(scores, order, 1), order


def points(seed, rows, width, kind):
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((rows, width))
    if kind == "repeated":
        made = made[rng.integers(0, max(1, rows // 5), rows)]
    elif kind == "outliers":
        made[:: max(1, rows // 3)] *= 1e3
    elif kind == "narrow":  # all alike, as the states of a language model are
        made = 10 + 1e-3 * made
    elif kind == "grid":  # many exact ties that are not repetitions
        made = np.round(made)
    return made.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 120),
    width=st.integers(1, 40),
    k=st.integers(1, 30),
    kind=st.sampled_from(["plain", "repeated", "outliers", "narrow", "grid"]),
    metric=st.sampled_from(METRICS),
    query_block=st.integers(1, 200),
    corpus_block=st.integers(1, 200),
)
def test_equals_brute_force(seed, rows, width, k, kind, metric, query_block, corpus_block):
    corpus, queries = points(seed, rows, width, kind), points(seed + 1, 17, width, kind)
    scores, places = top_k(queries, corpus, k, metric, query_block, corpus_block)
    there = min(k, rows)
    expected_scores, expected = brute_force(queries, corpus, there, metric)
    np.testing.assert_array_equal(places[:, :there], expected)
    np.testing.assert_array_equal(scores[:, :there], expected_scores)
    assert (places[:, there:] == -1).all()
    assert np.isneginf(scores[:, there:]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_low_precision_cannot_hide_a_neighbour(metric):
    """Neighbours that differ by less than any coarse precision can tell are still put in order."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal(64)
    base /= np.linalg.norm(base)
    corpus = base + 1e-12 * rng.standard_normal((3000, 64))
    queries = (base + 1e-6 * rng.standard_normal((5, 64))).astype(np.float64)
    scores, places = top_k(queries, corpus, 10, metric)
    expected_scores, expected = brute_force(queries, corpus, 10, metric)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(scores, expected_scores)


def test_threads_and_devices_do_not_change_a_bit():
    corpus, queries = points(0, 2000, 48, "plain"), points(1, 300, 48, "plain")
    reference = top_k(queries, corpus, 20, query_block=64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        threaded = top_k(queries, corpus, 20, corpus_block=333)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    two = top_k(queries, corpus, 20, query_block=50, device=["cpu", "cpu"])
    unkept = top_k(queries, corpus, 20, corpus_block=128, keep_gb=0)
    for other in (threaded, two, unkept):
        np.testing.assert_array_equal(other[0], reference[0])
        np.testing.assert_array_equal(other[1], reference[1])


def test_each_precision_alone_gives_the_same_answer(monkeypatch):
    corpus, queries = points(0, 3000, 32, "plain"), points(1, 200, 32, "plain")
    answers = []
    for fast in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(search_module, "fast_precision", lambda device, fast=fast: fast)
        answers.append(top_k(queries, corpus, 25))
    np.testing.assert_array_equal(answers[0][1], answers[1][1])
    np.testing.assert_array_equal(answers[0][0], answers[1][0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["plain", "narrow", "outliers"])
def test_coarse_limits_hold(metric, precision, kind):
    """Every true score lies within the limits that the coarse pass states, seen or unseen."""
    corpus, queries = points(5, 700, 24, kind), points(6, 40, 24, kind)
    rows, asked = Rows(corpus, "corpus"), Rows(queries, "queries")
    scan = Scan(rows, rows.norms(), metric, precision, torch.device("cpu"), 128, 1e9)
    found = scan.search(asked.read(slice(None)), asked.norms(), 30)
    for i, query in enumerate(queries.astype(np.float64)):
        norms = rows.norms()
        true = pair_scores(query, corpus.astype(np.float64), metric, np.linalg.norm(query), norms)
        candidates = found.places[i]
        assert (true[candidates] <= found.worth[i]).all()
        assert (true[candidates] >= found.least[i]).all()
        unseen = np.setdiff1d(np.arange(len(corpus)), candidates)
        assert (true[unseen] <= found.unseen[i]).all()


def test_takes_what_holds_a_matrix(tmp_path):
    corpus, queries = points(0, 200, 16, "plain"), points(1, 20, 16, "plain")
    reference = top_k(queries, corpus, 5)
    np.save(tmp_path / "corpus.npy", corpus)
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    for held in (mapped, torch.from_numpy(corpus), corpus.astype(np.float64), np.asfortranarray(corpus)):
        scores, places = top_k(torch.from_numpy(queries), held, 5)
        np.testing.assert_array_equal(scores, reference[0])
        np.testing.assert_array_equal(places, reference[1])
    half = torch.from_numpy(corpus).to(torch.bfloat16)
    _, places = top_k(queries, half, 5)
    np.testing.assert_array_equal(places, brute_force(queries, half.float().numpy(), 5, "ip")[1])


def test_blocks_come_in_order_and_whole():
    corpus, queries = points(0, 100, 8, "plain"), points(1, 25, 8, "plain")
    parts = list(Search(corpus, 3).run(Rows(queries), query_block=10))
    assert [start for start, _, _ in parts] == [0, 10, 20]
    assert [len(scores) for _, scores, _ in parts] == [10, 10, 5]


def test_says_what_is_wrong():
    good = points(0, 10, 4, "plain")
    bad = good.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="corpus: row 7 "):
        top_k(good, bad, 3)
    with pytest.raises(ValueError, match="queries: row 7 "):
        top_k(bad, good, 3)
    with pytest.raises(ValueError, match="5 values in a row, the corpus has 4"):
        top_k(points(0, 3, 5, "plain"), good, 3)
    with pytest.raises(ValueError, match="must be positive"):
        top_k(good, good, 0)


def test_zero_vectors_have_cosine_zero():
    corpus = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], np.float32)
    scores, places = top_k(np.array([[2.0, 0.0]], np.float32), corpus, 3, "cosine")
    assert places.tolist() == [[1, 0, 2]]
    assert scores.tolist() == [[1.0, 0.0, -1.0]]


def test_equal_rows_are_found():
    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((6, 3))[[0, 1, 0, 2, 1, 0]]
    distinct = find_distinct(Rows(corpus))
    assert distinct.first.tolist() == [0, 1, 3]
    assert distinct.which.tolist() == [0, 1, 0, 2, 1, 0]
    places, owner = distinct.members(np.array([1, 0]), 2)
    assert places.tolist() == [1, 4, 0, 2]
    assert owner.tolist() == [0, 0, 1, 1]


def test_a_hundred_thousand_repetitions_cost_one(monkeypatch):
    """The ties of a corpus that repeats few vectors are settled without looking at all of it."""
    corpus = np.repeat(points(0, 20, 8, "plain"), 500, axis=0)
    search = Search(corpus, 7, "l2")
    assert len(search.once) == 20
    monkeypatch.setattr(search_module._Worker, "_exhaust", lambda *_: pytest.fail("not needed"))
    (_, _, places), *_ = search.run(Rows(corpus[:3]))
    assert places[0].tolist() == list(range(7))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("metric", METRICS)
def test_a_gpu_gives_the_same_bits(metric):
    corpus, queries = points(0, 20000, 96, "plain"), points(1, 500, 96, "plain")
    on_cpu, on_gpu = (top_k(queries, corpus, 30, metric, device=d) for d in ("cpu", "cuda"))
    np.testing.assert_array_equal(on_cpu[0], on_gpu[0])
    np.testing.assert_array_equal(on_cpu[1], on_gpu[1])


@pytest.mark.parametrize("metric", ["ip", "cosine"])
@pytest.mark.parametrize("device_precision", [torch.bfloat16, torch.float32])
def test_below_a_score_the_nearest_are_found(monkeypatch, metric, device_precision):
    """Each query has a ceiling of its own; equal vectors, ceilings that exclude all, and large k included."""
    monkeypatch.setattr(search_module, "fast_precision", lambda device: device_precision)
    rng = np.random.default_rng(5)
    corpus = rng.standard_normal((700, 24)).astype(np.float32)
    corpus[350:400] = corpus[:50]  # which are searched once
    queries = rng.standard_normal((40, 24)).astype(np.float32)
    all_scores, all_places = top_k(queries, corpus, 700, metric)
    ceilings = np.take_along_axis(all_scores, rng.integers(0, 700, (40, 1)), axis=1)[:, 0]
    ceilings[:2] = [all_scores[0, -1] - 1, np.inf]  # nothing, and everything
    for k in (1, 7, 90, 700):
        parts = list(Search(corpus, 3, metric, 128).run(Rows(queries), 16, below=ceilings, k=k))
        scores, places = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        for row in range(40):
            allowed = all_scores[row] <= ceilings[row]
            expected = all_places[row][allowed][:k]
            assert places[row].tolist() == expected.tolist() + [-1] * (k - len(expected))
            assert scores[row, : len(expected)].tolist() == all_scores[row][allowed][:k].tolist()
