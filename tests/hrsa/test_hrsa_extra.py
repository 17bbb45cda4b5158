"""RSA, SVCCA, RBF CKA, dimension and isotropy against scipy, scikit-learn and closed forms."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import rankdata, spearmanr
from sklearn.cross_decomposition import CCA
from sklearn.metrics.pairwise import rbf_kernel

from realign.hrsa import extra
from realign.hrsa.groups import Groups
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


def test_canonical_correlations_equal_scikit_learn_and_forgive_any_linear_map(random):
    x, y = random.standard_normal((2, 200, 3))
    y = y + x @ random.standard_normal((3, 3))
    a, b = CCA(n_components=3, max_iter=10000, tol=1e-14).fit_transform(x, y)
    theirs = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    ours = extra.canonical_correlations(x, y, 1.0)
    np.testing.assert_allclose(np.sort(ours), np.sort(np.abs(theirs)), atol=1e-6)
    np.testing.assert_allclose(
        extra.canonical_correlations(x @ np.diag([9, 1, 0.1]), y, 1.0), ours, atol=1e-8
    )
    qx, qy = (np.linalg.qr(v - v.mean(0))[0] for v in (x, y))
    np.testing.assert_allclose(ours, np.linalg.svd(qx.T @ qy, compute_uv=False), atol=1e-10)


def test_svcca_keeps_the_main_components(random):
    x = random.standard_normal((200, 5)) * [100, 50, 0.01, 0.01, 0.01]
    assert len(extra.canonical_correlations(x, x, 0.99)) == 2
    assert len(extra.canonical_correlations(np.ones((50, 3)), x[:50], 0.99)) == 0


def test_rbf_cka_equals_scikit_learns_kernel(random):
    x, y = random.standard_normal((2, 60, 4))
    y += x
    found = extra.rbf_cka(near(x), near(y), 0.5, ONE)

    def dense(x, y):
        h = np.eye(60) - 1 / 60
        kernels = [h @ rbf_kernel(v, gamma=1 / (2 * 0.25 * np.median(pdist(v) ** 2))) @ h for v in (x, y)]
        k, m = kernels
        return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())

    assert found[0] == pytest.approx(dense(x, y), abs=1e-10)
    assert extra.rbf_cka(near(np.ones((60, 2))), near(x), 0.5, ONE)[0] == 0


@pytest.mark.parametrize("dimension", [2, 5])
def test_intrinsic_dimension_of_a_flat_piece_of_a_wide_space(random, dimension):
    x = random.uniform(size=(3000, dimension)) @ random.standard_normal((dimension, 20))
    assert extra.intrinsic_dimension(x, near(x)) == pytest.approx(dimension, rel=0.12)


def test_intrinsic_dimension_leaves_out_twins(random):
    x = random.uniform(size=(1000, 2))
    doubled = np.concatenate([x, x[:300]])
    assert extra.intrinsic_dimension(doubled, near(doubled)) == pytest.approx(2, rel=0.15)
    assert np.isnan(extra.intrinsic_dimension(np.ones((9, 2)), near(np.ones((9, 2)))))


def test_effective_dimension_mean_cosine_and_isotropy(random):
    even = random.standard_normal((20000, 4))
    assert extra.effective_dimension(even, even) == pytest.approx(4, rel=0.01)
    assert extra.isotropy(even, even) == pytest.approx(1, abs=0.01)
    line = even[:, :1] * np.ones((1, 4))
    assert extra.effective_dimension(line, line) == pytest.approx(1)
    assert extra.isotropy(line, line) == pytest.approx(0, abs=1e-12)
    assert abs(extra.mean_cosine(even, even)) < 0.01
    assert extra.mean_cosine(even + 100, even) > 0.99
    few = even[:30]
    unit = few / np.linalg.norm(few, axis=1, keepdims=True)
    dense = (unit @ unit.T)[~np.eye(30, dtype=bool)].mean()
    assert extra.mean_cosine(few, few) == pytest.approx(dense, abs=1e-12)
