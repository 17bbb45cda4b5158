"""Tokens are drawn evenly by text, by seed, and for equal counts alike, whatever the model."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from realign.states.selection import select_tokens
from realign.study.states import TokenSelection

counts = st.lists(st.integers(0, 40), min_size=1, max_size=12)


@given(counts, st.integers(0, 200), st.integers(0, 5))
def test_the_asked_number_is_kept_evenly(counts, asked, skip):
    kept = select_tokens(counts, TokenSelection(count=asked, skip_first=skip), 0, "c")
    available = [max(0, n - skip) for n in counts]
    sizes = [len(k) for k in kept]
    assert sum(sizes) == min(asked, sum(available))
    for positions, count, have in zip(kept, counts, available, strict=True):
        assert len(set(positions.tolist())) == len(positions) <= have
        assert all(skip <= p < count for p in positions)
        assert (np.diff(positions) > 0).all()
    # A text gives less than another only when it has no more to give, a token of remainder apart.
    most = max(sizes)
    assert all(size >= min(have, most - 1) for size, have in zip(sizes, available, strict=True))


@given(counts, st.integers(0, 5))
def test_all_tokens_are_kept_without_a_count(counts, skip):
    kept = select_tokens(counts, TokenSelection(count=None, skip_first=skip), 3, "c")
    assert [k.tolist() for k in kept] == [list(range(min(skip, n), n)) for n in counts]


def test_the_draw_follows_seed_and_corpus_and_nothing_else():
    counts, few = [30, 50, 20, 90], TokenSelection(count=40)
    flat = [np.concatenate(select_tokens(counts, few, *names)) for names in
            ((0, "a"), (0, "a"), (1, "a"), (0, "b"))]  # fmt: skip
    assert np.array_equal(flat[0], flat[1])
    assert not np.array_equal(flat[0], flat[2])
    assert not np.array_equal(flat[0], flat[3])


def test_positions_are_drawn_from_the_whole_text():
    drawn = np.concatenate([select_tokens([1000], TokenSelection(count=100), s, "c")[0] for s in range(30)])
    assert abs(drawn.mean() - 499.5) < 30
    assert drawn.max() > 950
    assert drawn.min() < 50
