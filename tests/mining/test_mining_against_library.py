"""The same negatives as sentence-transformers on the same vectors, and brute force where it matters."""

import random
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import datasets
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sentence_transformers.util import mine_hard_negatives

from realign.artifacts.command import UserError
from realign.mining import pool as pool_module
from realign.mining.collection import collect
from realign.mining.deeper import Deeper
from realign.mining.filters import window_of
from realign.mining.judging import Blank, Picked, judge_pool
from realign.mining.pool import ExactFinder, find_pools
from realign.study.mining import MineJob
from realign.text.pairs import PairRow, normalised

datasets.disable_progress_bars()


class StubModel:
    """Just enough of a SentenceTransformer: vectors from a table, cosine similarity."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="stub")

    def __init__(self, queries, passages):
        self.queries, self.passages = queries, passages

    def encode_query(self, texts, **_):
        return np.stack([self.queries[t] for t in texts])

    def encode_document(self, texts, **_):
        return np.stack([self.passages[t] for t in texts])

    def get_embedding_dimension(self):
        return len(next(iter(self.passages.values())))

    def similarity(self, a, b):
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a, b):
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1)


def unit(rng, rows, width):
    made = rng.standard_normal((rows, width))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def make_dataset(seed, queries, passages, extra, uneven):
    """Rows (query, positive), vectors in which a query lies near its positives, and a corpus."""
    rng = np.random.default_rng(seed)
    width = 12
    texts = [f"passage {i}" for i in range(passages)]
    vectors = dict(zip(texts, unit(rng, passages, width), strict=True))
    more = {f"extra {i}": v for i, v in enumerate(unit(rng, extra, width))}
    rows, asked = [], {}
    for q in range(queries):
        count = 1 + int(rng.integers(0, 3)) if uneven else 1
        own = rng.choice(passages, min(count, passages), replace=False)
        near = vectors[texts[own[0]]] + 0.6 * rng.standard_normal(width)
        asked[f"query {q}"] = (near / np.linalg.norm(near)).astype(np.float32)
        rows += [(f"query {q}", texts[p]) for p in own]
    rng.shuffle(rows)
    return [tuple(map(str, row)) for row in rows], asked, vectors | more, list(more)


def ours(rows, asked, vectors, corpus, job):
    """(query, positive) → the negatives, by this package; none where the row was dropped."""
    pairs = [PairRow(query, (positive,)) for query, positive in rows]
    collection = collect(pairs, corpus, job.equality == "exact")
    window = window_of(job, len(rows), collection.most_positives, False)
    queries = np.stack([asked[t] for t in collection.queries])
    passages = np.stack([vectors[t] for t in collection.passages])
    finder = ExactFinder(passages, window.pool, None)
    mined, blank = {}, Blank.among(queries, passages)
    deeper = Deeper(collection, finder, blank, job, window.range_max)
    with tempfile.TemporaryDirectory() as folder:
        further = {"deeper": deeper} if job.range_counts == "eligible" else {}
        for pool in find_pools(collection, queries, passages, finder, Path(folder), **further):
            numbers, block, codes = judge_pool(collection, pool, blank, job, window.range_max)
            mined |= {rows[row]: [] for row in numbers}
            chosen = Picked.of(numbers, block, codes)
            for row, passage in zip(chosen.rows, chosen.passages, strict=True):
                mined[rows[row]].append(collection.passages[passage])
    return mined


def library(rows, asked, vectors, corpus, job, use_faiss, output="n-tuple"):
    """The same, by sentence-transformers."""
    table = datasets.Dataset.from_dict({"query": [q for q, _ in rows], "positive": [p for _, p in rows]})
    made = mine_hard_negatives(
        table,
        StubModel(asked, vectors),
        anchor_column_name="query",
        positive_column_name="positive",
        corpus=corpus or None,
        range_min=job.range_min,
        range_max=job.range_max,
        max_score=job.max_score,
        min_score=job.min_score,
        absolute_margin=job.absolute_margin,
        relative_margin=job.relative_margin,
        num_negatives=job.negatives,
        sampling_strategy=job.choose,
        output_format=output,
        use_faiss=use_faiss,
        verbose=False,
    )
    mined = {row: [] for row in rows}
    for row in made:
        own = (row["query"], row["positive"])
        if output == "triplet":
            mined[own].append(row["negative"])
        else:
            mined[own] = [row[f"negative_{i + 1}"] for i in range(job.negatives)]
    return mined


SETTINGS = {
    "negatives": st.integers(1, 4),
    "range_min": st.integers(0, 6),
    "range_max": st.none() | st.integers(5, 40),
    "relative_margin": st.none() | st.floats(0.0, 0.5),
    "absolute_margin": st.none() | st.floats(-0.2, 0.5),
    "max_score": st.none() | st.floats(0.0, 0.9),
    "min_score": st.none() | st.floats(-0.5, 0.4),
}
SIZES = {
    "seed": st.integers(0, 100_000),
    "queries": st.integers(1, 25),
    "passages": st.integers(3, 40),
    "extra": st.sampled_from([0, 0, 7, 30]),
    "uneven": st.booleans(),
}


# As the library: strict about texts, and what is refused uses up places of the range.
AS_THE_LIBRARY = {"equality": "exact", "allow_query": True, "range_counts": "all"}


def job_of(**given):
    assume(given["range_max"] is None or given["range_max"] - given["range_min"] >= given["negatives"])
    return MineJob(**AS_THE_LIBRARY | given)


@settings(max_examples=80, deadline=None)
@given(use_faiss=st.booleans(), keep=st.booleans(), **SIZES, **SETTINGS)
def test_same_negatives_nearest_first(seed, queries, passages, extra, uneven, use_faiss, keep, **given):
    rows, asked, vectors, corpus = make_dataset(seed, queries, passages, extra, uneven)
    job = job_of(too_few="keep" if keep else "drop", **given)
    expected = library(rows, asked, vectors, corpus, job, use_faiss, "triplet" if keep else "n-tuple")
    assert ours(rows, asked, vectors, corpus, job) == expected


@settings(max_examples=30, deadline=None)
@given(**SIZES, **SETTINGS)
def test_random_draws_come_from_the_same_survivors(seed, queries, passages, extra, uneven, **given):
    """A draw has another generator, so what is compared is how many each row gets, and from what."""
    rows, asked, vectors, corpus = make_dataset(seed, queries, passages, extra, uneven)
    job = job_of(choose="random", too_few="keep", **given)
    random.seed(seed)
    theirs = library(rows, asked, vectors, corpus, job, False, "triplet")
    mine = ours(rows, asked, vectors, corpus, job)
    everything = job.model_copy(update={"choose": "top", "negatives": 10_000})
    survivors = ours(rows, asked, vectors, corpus, window_kept(everything, job, rows))
    for row in rows:
        assert len(mine[row]) == len(theirs[row])
        assert set(mine[row]) <= set(survivors[row])
        assert set(theirs[row]) <= set(survivors[row])


def window_kept(everything, job, rows):
    """All survivors of the same window: more negatives are wanted than there can be."""
    positives = max(sum(q == row[0] for q, _ in rows) for row in rows)
    range_max = window_of(job, len(rows), positives, False).range_max
    return everything.model_copy(update={"range_max": range_max, "negatives": range_max - job.range_min})


def all_eligible(rows, asked, vectors, corpus, job):
    """Each row's eligible texts in the whole corpus, nearest first, straight from the definition."""
    texts = list(dict.fromkeys([*corpus, *(p for _, p in rows)]))
    wide = {t: v.astype(float) for t, v in vectors.items()}
    found = {}
    for query, positive in rows:
        score = {t: float(np.sum(asked[query].astype(float) * wide[t])) for t in texts}
        own = [p for q, p in rows if q == query]
        least = min(score[p] for p in own)
        found[query, positive] = [
            t
            for t in sorted(texts, key=lambda t: (-score[t], texts.index(t)))
            if t not in own
            and (job.relative_margin is None or score[t] <= least - abs(least) * job.relative_margin)
            and (job.absolute_margin is None or score[t] + job.absolute_margin <= least)
            and (job.max_score is None or score[t] <= job.max_score)
            and (job.min_score is None or score[t] >= job.min_score)
        ]
    return found


@settings(max_examples=80, deadline=None)
@given(keep=st.booleans(), **SIZES, **SETTINGS)
def test_a_row_is_short_only_when_the_corpus_holds_no_more(
    seed, queries, passages, extra, uneven, keep, **given
):
    """However many of the nearest are refused; equal to the definition over the whole corpus."""
    rows, asked, vectors, corpus = make_dataset(seed, queries, passages, extra, uneven)
    job = job_of(range_counts="eligible", too_few="keep" if keep else "drop", **given)
    mined = ours(rows, asked, vectors, corpus, job)
    for row, eligible in all_eligible(rows, asked, vectors, corpus, job).items():
        expected = eligible[job.range_min :][: job.negatives]
        assert mined[row] == (expected if keep or len(expected) == job.negatives else [])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    queries=st.integers(2, 10),
    copies=st.integers(1, 30),
    negatives=st.integers(1, 4),
    relative_margin=st.floats(0.0, 0.4),
    shard=st.sampled_from([3, 8192]),
)
def test_repeated_texts_leave_no_row_short(seed, queries, copies, negatives, relative_margin, shard):
    """Rows of one shard are looked at again after unequal numbers of new texts, and so of padding."""
    rows, asked, vectors, texts = make_dataset(seed, queries, 6, 10, False)
    rng, corpus = np.random.default_rng(seed), []
    for text in texts:  # the same text but for its spaces, a hair further from everything
        for i in range(int(rng.integers(1, copies + 1))):
            corpus.append(text.replace(" ", " " * (i + 1)))
            vectors[corpus[-1]] = (vectors[text] + 1e-3 * rng.standard_normal(12)).astype(np.float32)
    given = {"negatives": negatives, "relative_margin": relative_margin, "range_max": negatives + 2}
    job = MineJob(too_few="keep", **given)
    with patch.object(pool_module, "SHARD_QUERIES", shard):
        mined = ours(rows, asked, vectors, corpus, job)
    for row, eligible in all_eligible(rows, asked, vectors, corpus, job).items():
        once = list({normalised(text): text for text in reversed(eligible)}.values())[::-1]
        expected = sorted(once, key=eligible.index)[:negatives]
        assert mined[row] == expected


def test_what_the_library_finds_comes_first():
    """Refused texts use up places of its range; a row that is full has the same negatives in both ways."""
    rows, asked, vectors, corpus = make_dataset(3, 25, 40, 30, uneven=False)
    job = MineJob(**AS_THE_LIBRARY, range_max=6, relative_margin=0.6, too_few="keep")
    theirs = ours(rows, asked, vectors, corpus, job)
    assert theirs == library(rows, asked, vectors, corpus, job, False, "triplet")
    deeper = ours(rows, asked, vectors, corpus, job.model_copy(update={"range_counts": "eligible"}))
    assert all(deeper[row][: len(found)] == found for row, found in theirs.items())
    assert sum(len(found) < 3 for found in theirs.values()) > 5
    assert all(len(found) == 3 for found in deeper.values())


def by_definition(rows, asked, vectors, corpus, job):
    """Each row's negatives straight from the definition, a query at a time, without any blocks."""
    texts = list(dict.fromkeys([*corpus, *(p for _, p in rows)]))
    positives = {}
    for query, positive in rows:
        positives.setdefault(query, []).append(positive)
    most = max(map(len, positives.values()))
    mined = {}
    for query, own in positives.items():
        score = {t: float(asked[query].astype(float) @ vectors[t].astype(float)) for t in texts}
        ranking = sorted(texts, key=lambda t: (-score[t], texts.index(t)))[: job.range_max + most]
        least = min(score[p] for p in own)
        left = [t for t in ranking if t not in own]
        left = [t for t in left if score[t] <= least - abs(least) * job.relative_margin]
        left = left[job.range_min : job.range_max][: job.negatives]
        for positive in own:
            mined[query, positive] = left if len(left) == job.negatives else []
    return mined


def misaligned(rows, asked, vectors):
    """The least positive scores as library versions before the repair had them: the running place
    among all positives advances by the number of positives of the query before."""
    order = list(dict.fromkeys(q for q, _ in rows))
    own = {q: [p for r, p in rows if r == q] for q in order}
    flat = [float(asked[q].astype(float) @ vectors[p].astype(float)) for q in order for p in own[q]]
    least, place = {}, 0
    for i, query in enumerate(order):
        least[query] = min(flat[place : place + len(own[query])])
        place += len(own[order[i - 1]])
    return least


@pytest.mark.parametrize("seed", range(8))
def test_uneven_numbers_of_positives_by_definition(seed):
    """Every query is measured against its own least positive, however many the others have."""
    rows, asked, vectors, corpus = make_dataset(seed, 30, 60, 0, uneven=True)
    job = MineJob(**AS_THE_LIBRARY, range_max=30, relative_margin=0.05)
    expected = by_definition(rows, asked, vectors, corpus, job)
    assert ours(rows, asked, vectors, corpus, job) == expected
    assert any(expected.values())


def test_the_misalignment_would_show():
    """The data above tells an aligned margin from a misaligned one."""
    rows, asked, vectors, _ = make_dataset(0, 30, 60, 0, uneven=True)
    slipped = misaligned(rows, asked, vectors)
    true = {}
    for query, positive in rows:
        score = float(asked[query].astype(float) @ vectors[positive].astype(float))
        true[query] = min(score, true.get(query, np.inf))
    assert sum(abs(slipped[q] - true[q]) > 1e-6 for q in true) > 5


def test_a_window_too_narrow_says_so():
    with pytest.raises(UserError, match="holds fewer than 3 candidates"):
        window_of(MineJob(range_max=100, range_max_share=0.1), 12, 1, False)
    assert window_of(MineJob(range_max=100, range_max_share=0.1), 500, 2, False).range_max == 50
    assert window_of(MineJob(range_max=100, range_max_share=0.1), 10_000, 2, False).pool == 102
