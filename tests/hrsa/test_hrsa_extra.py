"""RSA, SVCCA, RBF CKA, dimension and isotropy against scipy, scikit-learn and closed forms."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import rankdata, spearmanr
from sklearn.cross_decomposition import CCA
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel

from realign.hrsa import compare, extra
from realign.hrsa.groups import FIRST_ORDER, Groups
from realign.hrsa.reading import haar_rotation

ONE = Groups(np.arange(60), 20)


def near(x):
    return extra.squared_distances(x)


def test_distances_equal_scipy(random):
    x = random.standard_normal((60, 4)) + 100
    np.testing.assert_allclose(np.sqrt(near(x)), cdist(x, x), atol=1e-9)


def test_ranks_equal_scipy_with_ties(random):
    values = random.integers(0, 9, 100).astype(float)
    np.testing.assert_allclose(extra.average_ranks(values) + 49.5, rankdata(values) - 1)


def test_rsa_equals_scipy(random):
    x, y = random.standard_normal((2, 60, 4))
    y += x
    found = extra.rsa(near(x), near(y), ONE)
    assert found[0] == pytest.approx(spearmanr(pdist(x), pdist(y)).statistic, abs=1e-10)
    assert len(found) == 21
    keep = ONE.of_row != 4
    again = spearmanr(pdist(x[keep]), pdist(y[keep])).statistic  # with new ranks: nearly the same
    assert found[5] == pytest.approx(again, abs=0.01)


def test_rsa_forgives_rotation_and_scale_but_not_stretch(random):
    x = random.standard_normal((60, 5))
    assert extra.rsa(near(x), near(2 * x @ haar_rotation(5, 0)), ONE)[0] == pytest.approx(1, abs=1e-9)
    assert extra.rsa(near(x), near(x @ np.diag([9.0, 1, 1, 1, 1])), ONE)[0] < 0.9


def canonical(x, y, variance=1.0, most=1000):
    (left, loadings), (right, _) = (extra.main_components(v, variance, most) for v in (x, y))
    return extra.canonical_similarities(left, loadings, right)


def test_canonical_similarities_equal_scikit_learn_and_forgive_any_linear_map(random):
    x, y = random.standard_normal((2, 200, 3))
    y = y + x @ random.standard_normal((3, 3))
    a, b = CCA(n_components=3, max_iter=10000, tol=1e-14).fit_transform(x, y)
    theirs = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    ours = canonical(x, y)
    assert ours["svcca"] == pytest.approx(np.mean(theirs), abs=1e-6)
    stretched = canonical(x @ np.diag([9, 1, 0.1]), y)
    assert stretched["svcca"] == pytest.approx(ours["svcca"], abs=1e-8)
    qx, qy = (np.linalg.qr(v - v.mean(0))[0] for v in (x, y))
    u, s, _ = np.linalg.svd(qx.T @ qy)
    assert ours["svcca"] == pytest.approx(s.mean(), abs=1e-10)
    weights = np.abs((qx @ u).T @ (x - x.mean(0))).sum(1)
    assert ours["pwcca"] == pytest.approx(s @ weights / weights.sum(), abs=1e-10)


def test_pwcca_weighs_by_what_the_left_model_carries(random):
    shared, x, y = random.standard_normal((3, 300, 2))
    loud = canonical(np.hstack([9 * shared, x]), np.hstack([shared, y]))
    quiet = canonical(np.hstack([shared, 9 * x]), np.hstack([shared, y]))
    assert loud["svcca"] == pytest.approx(quiet["svcca"])
    assert loud["pwcca"] > 0.8 > loud["svcca"] > quiet["pwcca"]


def test_only_the_main_components_are_matched(random):
    x = random.standard_normal((200, 5)) * [100, 50, 0.01, 0.01, 0.01]
    assert extra.main_components(x, 0.99, 1000)[0].shape == (200, 2)
    still = canonical(np.ones((50, 3)), x[:50], 0.99)
    assert still == {"svcca": 0, "pwcca": 0}


def test_rbf_cka_equals_scikit_learns_kernel(random):
    x, y = random.standard_normal((2, 60, 4))
    y += x
    found = extra.rbf_cka(near(x), near(y), 0.5, ONE)["cka_rbf"]

    def dense(x, y):
        h = np.eye(60) - 1 / 60
        kernels = [h @ rbf_kernel(v, gamma=1 / (2 * 0.25 * np.median(pdist(v) ** 2))) @ h for v in (x, y)]
        k, m = kernels
        return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())

    assert found[0] == pytest.approx(dense(x, y), abs=1e-10)
    assert extra.rbf_cka(near(np.ones((60, 2))), near(x), 0.5, ONE)["cka_rbf"][0] == 0


def test_unrelated_wide_models_look_unlike(random):
    """As many components as tokens can always be matched, and Gaussian kernels of wide states are nearly equal."""
    x, y = random.standard_normal((2, 300, 400))
    rows = compare(x, y, families="extra", max_tokens=300).set_index(["measure", "statistic"])["value"]
    assert canonical(x, y, 0.99, most=1000)["svcca"] > 0.8
    assert rows["svcca", "mean"] < 0.35
    assert rows["svcca", "mean"] == pytest.approx(rows["svcca", "shuffled"], abs=0.05)
    assert rows["pwcca", "mean"] == pytest.approx(rows["pwcca", "shuffled"], abs=0.05)
    assert rows["cka_rbf", "value"] > 0.5
    assert rows["cka_rbf_debiased", "value"] == pytest.approx(0, abs=0.02)
    alike = compare(x, x, families="extra", max_tokens=300).set_index(["measure", "statistic"])["value"]
    assert alike["svcca", "mean"] == pytest.approx(1) == alike["cka_rbf_debiased", "value"]
    assert alike["svcca", "shuffled"] < 0.35


def left_out(groups):
    """The rows that remain for each value of a jackknifed statistic."""
    return [~np.isin(groups.of_row, lost) for lost in groups.lost]


def test_descriptions_of_one_model_equal_dense_references_whatever_is_left_out(random):
    texts = np.repeat(np.arange(10), 12)
    groups = Groups(texts, 5)
    x = random.standard_normal((120, 6)) * [5, 3, 1, 1, 0.5, 0.1] + 2
    y = x[:, ::-1] ** 2
    found = extra.effective_dimensions(near(x), near(y), groups)
    for values, dimension in zip((x, y), found, strict=True):
        cosine, two = extra.mean_cosine(values, groups), extra.intrinsic_dimension(near(values), groups)
        even = extra.isotropy(dimension, 6, groups)
        for i, keep in enumerate(left_out(groups)):
            part = values[keep]
            spectrum = np.linalg.eigvalsh(np.cov(part.T))
            assert dimension[i] == pytest.approx(spectrum.sum() ** 2 / (spectrum**2).sum(), abs=1e-8)
            assert even[i] == pytest.approx((dimension[i] - 1) / 5, abs=1e-8)
            cosines = cosine_similarity(part)[~np.eye(len(part), dtype=bool)]
            assert cosine[i] == pytest.approx(cosines.mean(), abs=1e-8)
            # neighbours stay those of the whole sample, and the spread is widened
            distances = np.sort(cdist(values, values), axis=1)[keep]
            ratios = np.sort(distances[:, 2] / distances[:, 1])
            seen, total = ratios[: int(0.9 * len(ratios))], len(ratios)
            likelihood = np.log(seen).sum() + (total - len(seen)) * np.log(seen[-1])
            assert (two[i] - two[0]) / FIRST_ORDER == pytest.approx(len(seen) / likelihood - two[0], abs=1e-8)


@pytest.mark.parametrize("dimension", [2, 5])
def test_intrinsic_dimension_of_a_flat_piece_of_a_wide_space(random, dimension):
    x = random.uniform(size=(3000, dimension)) @ random.standard_normal((dimension, 20))
    assert value_of_intrinsic_dimension(x) == pytest.approx(dimension, rel=0.12)


def value_of_intrinsic_dimension(x):
    return extra.intrinsic_dimension(near(x), Groups(np.zeros(len(x), int)))[0]


def test_intrinsic_dimension_counts_equal_tokens_once(random):
    for x in (random.uniform(size=(1000, 2)), random.standard_normal((400, 300)).astype(np.float32)):
        twice = np.concatenate([x, x[:300]]).astype(np.float64)
        assert value_of_intrinsic_dimension(twice) == pytest.approx(value_of_intrinsic_dimension(x), rel=1e-6)
    assert np.isnan(value_of_intrinsic_dimension(np.ones((9, 2))))


def test_twins_are_known_in_wide_states_too(random):
    x = (random.uniform(size=(700, 3)) @ random.standard_normal((3, 512))).astype(np.float32)
    twice = near(np.concatenate([x, x[:300]]).astype(np.float64))
    assert (twice[np.arange(300), np.arange(300) + 700] == 0).all()
    assert (np.partition(twice + np.diag(np.full(1000, np.inf)), 1, axis=1)[300:700, 0] > 0).all()


def test_dimension_cosine_and_isotropy_of_even_and_of_flat_states(random):
    even, one = random.standard_normal((2000, 4)), Groups(np.zeros(2000, int))
    line = even[:, :1] * np.ones((1, 4))
    full, flat = extra.effective_dimensions(near(even), near(line), one)
    assert full[0] == pytest.approx(4, rel=0.02)
    assert extra.isotropy(full, 4, one)[0] == pytest.approx(1, abs=0.02)
    assert flat[0] == pytest.approx(1)
    assert extra.isotropy(flat, 4, one)[0] == pytest.approx(0, abs=1e-9)
    assert abs(extra.mean_cosine(even, one)[0]) < 0.01
    assert extra.mean_cosine(even + 100, one)[0] > 0.99
    still = extra.effective_dimensions(near(0 * even), near(line), one)[0]
    assert still[0] == 0
    assert extra.isotropy(still, 4, one)[0] == 0
