"""Intervals over texts: weights, degrees of freedom, and whether they cover known truths."""

from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import t

from realign.hrsa import procrustes as p
from realign.hrsa.centred import Layer
from realign.hrsa.cka import feature_sums
from realign.hrsa.correlation import Correlation
from realign.hrsa.groups import Groups


def test_the_interval_of_a_mean_is_students(random):
    # one text a group: the delete-one jackknife of a mean is the textbook interval
    x = random.standard_normal(25)
    groups = Groups(np.arange(25), 25)
    found = groups.one(groups.leave_out(x) / groups.left_out)
    error = x.std(ddof=1) / 5
    reach = t.ppf(0.975, 24) * error
    assert found == pytest.approx((x.mean(), x.mean() - reach, x.mean() + reach, error, 24))


def test_every_token_is_in_one_block_of_its_group(random):
    text_index = np.sort(random.integers(0, 37, 500))
    groups = Groups(text_index, 20)
    seen = np.zeros(500, int)
    for block in groups.blocks(7):
        rows = groups.order[block.rows]
        assert len(rows) <= 7
        assert (groups.of_row[rows] == block.group).all()
        seen[rows] += 1
    assert (seen == 1).all()
    for text in np.unique(text_index):  # a text is never divided
        assert len(np.unique(groups.of_row[text_index == text])) == 1


@pytest.mark.parametrize("labels", [2, 4, 5, 14])
def test_labels_that_a_corpus_lists_in_turn_are_mixed_in_every_group(labels):
    label = np.arange(400) % labels
    groups = Groups(np.arange(400), 20)
    assert set(groups.sizes) == {20}
    for group in range(20):
        inside = np.bincount(label[groups.of_row == group], minlength=labels)
        assert inside.max() < 20
        assert (inside > 0).sum() > labels / 2


def test_an_interval_of_a_mean_is_honest_where_labels_differ_and_take_turns(random):
    hits, widths = 0, []
    for seed in range(300):
        x = np.arange(200) % 4 * 5.0 + random.standard_normal(200)
        groups = Groups(np.arange(200), 20, seed)
        found = groups.one(groups.leave_out(np.bincount(groups.of_row, x)) / groups.left_out)
        hits += found.low <= 7.5 <= found.high
        widths.append(found.high - found.low)
    assert hits / 300 > 0.95  # the labels' shares are fixed, so an interval for drawn texts is wide
    # 200 texts drawn at random spread by their labels too
    expected = 2 * 2.09 * np.sqrt((np.var(np.arange(4) * 5.0) + 1) / 200)
    assert np.median(widths) == pytest.approx(expected, rel=0.15)


def test_few_texts_are_groups_of_their_own_and_one_text_has_no_interval():
    assert Groups(np.repeat([3, 5, 9], 4), 20).count == 3
    alone = Groups(np.zeros(8, int), 20)
    found = alone.one(alone.leave_out(np.ones(1)))
    assert found.value == 1
    assert np.isnan(found.low)


def test_unequal_groups_are_weighted(random):
    # 30 texts in 20 groups: ten groups of two and ten of one; the interval of a mean stays honest
    hits = 0
    for _ in range(400):
        x = random.standard_normal(30)
        groups = Groups(np.arange(30), 20)
        sums = np.bincount(groups.of_row, x)
        found = groups.one(groups.leave_out(sums) / groups.left_out)
        hits += found.low <= 0 <= found.high
    assert 0.91 <= hits / 400 <= 0.985


class World:
    """Two models of which everything is known: y = xB + noise, both sharing something within a text."""

    def __init__(self, seed, width=8):
        self.random = np.random.default_rng(seed)
        self.mix = self.random.standard_normal((width, width)) * np.linspace(2, 0.3, width)
        self.map = 0.6 * np.eye(width) + 0.3 * self.random.standard_normal((width, width))
        xx = 2 * self.mix.T @ self.mix
        xy, yy = xx @ self.map, self.map.T @ xx @ self.map + 2 * np.eye(width)
        self.truth = {
            "cka_debiased": (xy**2).sum() / np.sqrt((xx**2).sum() * (yy**2).sum()),
            "correlation": (np.diag(xy) / np.sqrt(np.diag(xx) * np.diag(yy))).mean(),
        }
        self.covariances = xx, xy, yy

    def risk(self, fitted):
        """The residual of a rotation on all texts there are."""
        xx, xy, yy = self.covariances
        off = fitted.mean_x @ fitted.rotation - fitted.mean_y
        misfit = np.trace(xx) + np.trace(yy) - 2 * np.vdot(fitted.rotation, xy) + off @ off
        return misfit / (np.trace(yy) + fitted.mean_y @ fitted.mean_y)

    def draw(self, texts, each, sink=1.0):
        """Both models' states and each token's text; dimension 0 of each text's first token is so large."""

        def noise():
            of_text = np.repeat(self.random.standard_normal((texts, len(self.mix))), each, axis=0)
            return of_text + self.random.standard_normal(of_text.shape)

        x = noise() @ self.mix
        y = x @ self.map + noise()
        for values in (x, y):
            values[::each, 0] *= sink
        return x, y, np.repeat(np.arange(texts), each)


def test_intervals_of_linear_measures_cover_the_truth(prepared):
    world, intervals, truths = World(1), defaultdict(list), defaultdict(list)
    for _ in range(250):
        x, y, text_index = world.draw(120, 6)
        left, right, groups, products = prepared(x, y, text_index)
        sums = p.layer_sums(Layer(left, 0), Layer(right, 0), groups)
        everyone = np.arange(groups.count)
        fits = [p.fit(sums), *(p.fit(sums, [g]) for g in everyone)]
        held = groups.leave_out(
            np.array([p.misfit(sums, f, np.array([g])) for g, f in zip(everyone, fits[1:], strict=True)])
        )
        found = {
            "cka_debiased": feature_sums(left, right, groups, products).cka(True)[:, 0, 0],
            "correlation": Correlation(left, right, groups).read(products).means[:, 0, 0],
            "angle": np.array([f.angle for f in fits]),
            "residual": held[:, 0] / held[:, 1],
        }
        risk = np.mean([world.risk(f) for f in fits[1:]])
        for name, values in found.items():
            intervals[name].append(groups.one(values))
            truths[name].append((world.truth | {"residual": risk}).get(name))
    truths["angle"] = np.mean([i.value for i in intervals["angle"]])  # of so many texts
    covered = {}
    for name, each in intervals.items():
        _, low, high, _, _ = np.array(each).T
        covered[name] = ((low <= truths[name]) & (truths[name] <= high)).mean()
    assert all(0.90 <= share <= 0.98 for share in covered.values()), covered


@pytest.mark.parametrize(("texts", "sink"), [(40, 1.0), (120, 1.0), (120, 2e4)])
def test_intervals_of_the_entropy_cover_its_mean_over_samples(prepared, texts, sink):
    world, found = World(1), []
    for _ in range(200):
        x, y, text_index = world.draw(texts, 6, sink)
        left, right, groups, _ = prepared(x, y, text_index)
        sums = p.layer_sums(Layer(left, 0), Layer(right, 0), groups)
        found.append(groups.one(p.entropy_without_each(sums, p.fit(sums), groups)))
    values, low, high, _, _ = np.array(found).T
    covered = ((low <= values.mean()) & (values.mean() <= high)).mean()
    assert 0.90 <= covered <= 0.98, covered


def test_tokens_taken_for_independent_would_not_cover(prepared):
    # The same data with each token as a text of its own: the reason why groups are of texts.
    world, hits, rounds = World(1), 0, 100
    for _ in range(rounds):
        x, y, _ = world.draw(60, 12)
        left, right, groups, products = prepared(x, y)
        interval = groups.one(Correlation(left, right, groups).read(products).means[:, 0, 0])
        hits += interval.low <= world.truth["correlation"] <= interval.high
    assert hits / rounds < 0.85


@pytest.mark.slow
def test_intervals_of_neighbour_overlap_cover_its_mean_over_samples():
    from realign.hrsa.neighbours import compare_lists, nearest

    random, found = np.random.default_rng(2), []
    for _ in range(250):

        def noise():
            of_text = np.repeat(random.standard_normal((120, 8)), 5, axis=0)
            return of_text + random.standard_normal(of_text.shape)

        x = noise()
        y, text_index = x + 0.5 * noise(), np.repeat(np.arange(120), 5)
        groups = Groups(text_index, 20)
        lists = [nearest(v, 10, "cosine", text_index, groups) for v in (x, y)]
        overlap = compare_lists(*lists, (10,), groups)[10]
        found.append(groups.one(overlap.means("knn_overlap"), excess=overlap.excess("knn_overlap")))
    values, low, high, _, _ = np.array(found).T
    covered = ((low <= values.mean()) & (values.mean() <= high)).mean()
    assert 0.90 <= covered <= 0.98, covered


def test_intervals_of_a_probe_cover_its_accuracy_on_new_texts():
    from realign.hrsa import probe
    from realign.hrsa.labels import as_target
    from realign.study.hrsa import ProbeJob

    random, settings = np.random.default_rng(3), ProbeJob(seeds=1, c=(1.0,), test=0.3, dev=0.05)
    weights, hits, rounds = random.standard_normal(6), 0, 200

    def draw(count):
        x = random.standard_normal((count, 6))
        return x, (x @ weights + 1.5 * random.standard_normal(count) > 0).astype(int)

    for turn in range(rounds):
        x, y = draw(400)
        target, groups = as_target([str(v) for v in y]), Groups(np.arange(400), 20)
        parts = probe.split_texts(target, settings, turn)
        fitted = probe.fit_probe(x, target, parts, settings)
        tally = probe.Tally(groups, target)
        tally.add(fitted(x), parts["test"])
        interval = groups.one(tally.scores()["accuracy"])
        new_x, new_y = draw(20000)
        hits += interval.low <= (fitted(new_x) == new_y).mean() <= interval.high
    assert 0.90 <= hits / rounds <= 0.98
