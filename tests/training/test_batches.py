import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realign.text.pairs import PairRow
from realign.training.batches import (
    MIXED,
    Sampling,
    Schedule,
    divided,
    draw,
    hold_out,
    plan_epoch,
    shares_of,
)

TABLE_7 = [105893, 97912, 277217, 499184, 94443, 102796, 17493, 65465, 167808, 84494, 90467]


def test_the_papers_sizes_give_the_papers_steps():
    plan = plan_epoch(TABLE_7, 2048, seed=0)
    assert sum(TABLE_7) == 1_603_172
    assert (plan.pure, plan.mixed, len(plan)) == (777, 5, 782)
    assert plan.dropped == 1_603_172 - 782 * 2048
    assert Schedule(TABLE_7, 2048, seed=0).steps == 782


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    batch=st.integers(2, 16),
    seed=st.integers(0, 1000),
    mix=st.booleans(),
)
def test_a_sample_comes_at_most_once_and_batches_are_of_one_dataset(sizes, batch, seed, mix):
    plan = plan_epoch(sizes, batch, seed, sampling=Sampling(mix))
    used = plan.samples.ravel()
    assert len(np.unique(used)) == len(used)
    assert plan.dropped + len(used) == sum(sizes)
    assert plan.dropped < batch or not mix
    ends = np.cumsum(sizes)
    for row, owner in zip(plan.samples, plan.datasets, strict=True):
        owners = set(np.searchsorted(ends, row, side="right").tolist())
        assert owner == MIXED or owners == {owner}


def test_the_order_follows_the_seed_and_the_epoch_alone():
    first, again = plan_epoch([50, 30], 8, 1), plan_epoch([50, 30], 8, 1)
    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, plan_epoch([50, 30], 8, 2).samples)
    assert not np.array_equal(first.samples, plan_epoch([50, 30], 8, 1, epoch=1).samples)


def test_batches_of_datasets_are_shuffled_among_each_other():
    owners = plan_epoch([800, 800], 8, 3).datasets
    assert 20 < (owners[:100] == 0).sum() < 80


def test_the_fingerprint_tells_orders_apart():
    assert Schedule([50, 30], 8, 1).fingerprint() == Schedule([50, 30], 8, 1).fingerprint()
    different = {
        Schedule(*arguments).fingerprint()
        for arguments in [([50, 30], 8, 1), ([50, 30], 8, 2), ([51, 30], 8, 1), ([50, 30], 8, 1, 2)]
    }
    assert len(different) == 4


def test_steps_beyond_an_epoch_begin_another():
    schedule = Schedule([40], 8, 0, steps=12)
    assert schedule.epochs == 3
    epochs = [schedule.samples(step)[0] for step in range(12)]
    assert epochs == [0] * 5 + [1] * 5 + [2] * 2
    again = Schedule([40], 8, 0, steps=12)
    assert np.array_equal(again.samples(11)[1], schedule.samples(11)[1])  # reached in any order


ROW = PairRow("q", ("p0", "p1", "p2"), ("n0", "n1", "n2", "n3"), "Instruct: x\nQuery: ")


def test_draws_are_seeded_and_differ_by_epoch():
    first = [draw(ROW, 3, 7, 0, s) for s in range(40)]
    assert first == [draw(ROW, 3, 7, 0, s) for s in range(40)]
    assert first != [draw(ROW, 3, 7, 1, s) for s in range(40)]
    assert {d.passages[0] for d in first} == {"p0", "p1", "p2"}
    assert all(len(set(d.passages[1:])) == 3 for d in first)


@pytest.mark.parametrize(("wanted", "counts"), [(6, {1, 2}), (4, {1}), (0, set())])
def test_negatives_repeat_only_where_there_are_too_few(wanted, counts):
    negatives = draw(ROW, wanted, 0, 0, 0).passages[1:]
    assert len(negatives) == wanted
    assert {negatives.count(n) for n in negatives} == counts


def test_what_is_held_out_is_shared_over_the_datasets():
    held = hold_out([100, 100, 3], 20, seed=5)
    assert [len(rows) for rows in held] == [7, 7, 1]
    assert all(len(set(rows.tolist())) == len(rows) for rows in held)


def test_a_draw_brings_the_scores_of_its_passages():
    row = PairRow("q", ("p0", "p1"), ("n0", "n1", "n2"), "", (0.0, 1.0), (10.0, 11.0, 12.0), 3.0)
    for sample in range(20):
        drawn = draw(row, 2, 7, 0, sample)
        by_text = {"p0": 0.0, "p1": 1.0, "n0": 10.0, "n1": 11.0, "n2": 12.0}
        assert drawn.scores == tuple(by_text[text] for text in drawn.passages)
        assert drawn.weight == 3


def test_datasets_of_unlike_losses_are_never_mixed():
    sampling = Sampling(kinds=(0, 1, 0))
    plan = plan_epoch([13, 15, 13], 5, seed=1, sampling=sampling)
    assert (plan.pure, plan.mixed) == (2 + 3 + 2, 1)
    mixed = plan.samples[plan.datasets == MIXED].ravel()
    assert not ((mixed >= 13) & (mixed < 28)).any()
    assert plan.dropped == 41 - 8 * 5


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(16, 80), min_size=1, max_size=5),
    batch=st.integers(2, 16),
    seed=st.integers(0, 1000),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=5, max_size=5),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 1000.0]),
)
def test_shares_keep_batches_pure_and_without_repetitions(sizes, batch, seed, weights, temperature):
    weights[0] = 2.0
    shares = shares_of(sizes, weights[: len(sizes)], temperature)
    plan = plan_epoch(sizes, batch, seed, sampling=Sampling(shares=shares))
    assert len(plan) == sum(sizes) // batch
    assert plan.mixed == 0
    assert all(len(set(row)) == batch for row in plan.samples.tolist())
    ends = np.cumsum(sizes)
    for row, owner in zip(plan.samples, plan.datasets, strict=True):
        assert set(np.searchsorted(ends, row, side="right").tolist()) == {owner}
    for number, share in enumerate(shares):
        assert abs((plan.datasets == number).sum() - share * len(plan)) < 1
    assert plan.dropped == sum(sizes) - len(set(plan.samples.ravel().tolist()))


def test_a_sampling_temperature_brings_small_datasets_nearer_to_large_ones():
    sizes = [100, 10_000]
    assert shares_of(sizes, [1, 1], 1.0) is None
    assert shares_of(sizes, [1, 1], 2.0) == pytest.approx((10 / 110, 100 / 110))
    assert shares_of(sizes, [1, 1], 1e9) == pytest.approx((0.5, 0.5))
    assert shares_of(sizes, [2, 1], 1.0) == pytest.approx((200 / 10_200, 10_000 / 10_200))
    assert divided(10, (0.55, 0.28, 0.17)) == [5, 3, 2]


def test_a_small_sampling_temperature_gives_the_largest_dataset_everything():
    assert shares_of([100, 10_000, 0], [1, 1, 1], 1e-3) == (0.0, 1.0, 0.0)
    assert shares_of([100, 10_000], [1, 0], 1e-3) == (1.0, 0.0)
    assert shares_of([100, 200], [1, 1], 0.5) == pytest.approx((0.2, 0.8))


def test_a_share_above_its_size_takes_a_dataset_several_times_each_time_in_another_order():
    plan = plan_epoch([10, 90], 5, seed=0, sampling=Sampling(shares=(0.5, 0.5)))
    small = plan.samples[plan.datasets == 0]
    assert len(small) == 10
    assert {int(s): 5 for s in range(10)} == dict(zip(*np.unique(small, return_counts=True), strict=True))
    assert len({tuple(sorted(row)) for row in small.tolist()}) > 2


def test_the_order_of_shares_follows_the_seed_and_the_epoch_alone():
    sampling = Sampling(shares=(0.25, 0.75))
    plans = [
        plan_epoch([50, 30], 8, seed, epoch, sampling).samples
        for seed, epoch in ((1, 0), (1, 0), (2, 0), (1, 1))
    ]
    assert np.array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])
    assert not np.array_equal(plans[0], plans[3])
