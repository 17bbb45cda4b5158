import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from realign.training.chunks import OVERHEAD, plan_chunks

lists = st.lists(st.integers(1, 40), max_size=60)


def cost(chunks, lengths, budget):
    return sum(len(c) * max(lengths[i] for i in c) + budget * OVERHEAD for c in chunks)


@settings(max_examples=100, deadline=None)
@given(lengths=lists, budget=st.integers(1, 200))
def test_every_text_is_in_one_chunk_and_chunks_keep_to_the_budget(lengths, budget):
    chunks = plan_chunks(lengths, budget)
    assert sorted(itertools.chain(*chunks)) == list(range(len(lengths)))
    for chunk in chunks:
        longest = max(lengths[i] for i in chunk)
        assert len(chunk) * longest <= budget or len(chunk) == 1
        assert lengths[chunk[0]] == longest


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9), budget=st.integers(5, 60))
def test_no_division_of_the_sorted_texts_costs_less(lengths, budget):
    found = cost(plan_chunks(lengths, budget), lengths, budget)
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for cuts in itertools.product([False, True], repeat=len(order) - 1):
        chunks = [[order[0]]]
        for i, cut in zip(order[1:], cuts, strict=True):
            chunks.append([i]) if cut else chunks[-1].append(i)
        if all(len(c) == 1 or len(c) * lengths[c[0]] <= budget for c in chunks):
            assert found <= cost(chunks, lengths, budget) + 1e-9


def test_texts_that_fit_and_are_alike_make_one_chunk():
    assert len(plan_chunks([10, 9, 10, 10], 40)) == 1
    assert plan_chunks([], 40) == []


def test_a_mix_of_lengths_is_almost_free_of_padding():
    lengths = [10 + (i * i) % 300 for i in range(600)]
    chunks = plan_chunks(lengths, 4096)
    padded = sum(len(c) * lengths[c[0]] for c in chunks)
    assert 1 - sum(lengths) / padded < 0.06
