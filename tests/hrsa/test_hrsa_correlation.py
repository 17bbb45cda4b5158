"""Dimension-wise correlation against scipy, and what it must and must not notice."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from realign.hrsa.cka import cka_sums
from realign.hrsa.correlation import Correlation, histogram, summary
from realign.hrsa.products import NumpyProducts
from realign.hrsa.reading import haar_rotation
from realign.hrsa.torch_products import TorchProducts

FORMS = {
    "features": lambda found, products: cka_sums(
        found.left, found.right, found.groups, products, "features", found
    ),
    "read": lambda found, products: found.read(products),
}


def correlate(left, right, groups, products, form="read"):
    found = Correlation(left, right, groups)
    FORMS[form](found, products)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_equals_scipy_for_every_pair_of_layers_and_every_group_left_out(pair, text_index, prepared, form):
    left, right, groups, products = prepared(*pair, text_index)
    found = correlate(left, right, groups, products, form)
    for place in (0, 4, 20):
        keep = ~np.isin(groups.of_row, groups.lost[place])
        for i, j in np.ndindex(3, 3):
            x, y = pair[0][i][keep], pair[1][j][keep]
            r = [pearsonr(x[:, d], y[:, d]).statistic for d in range(12)]
            assert found.means[place, i, j] == pytest.approx(np.mean(r), abs=1e-10)
    np.testing.assert_allclose(found.final[0], r_of(pair[0][2], pair[1][2]), atol=1e-10)


def r_of(x, y):
    return [pearsonr(x[:, d], y[:, d]).statistic for d in range(x.shape[1])]


def test_tiles_of_any_size_and_torch_give_the_same(pair, text_index, prepared, monkeypatch):
    from realign.hrsa import correlation

    expected = correlate(*prepared(*pair, text_index)).means
    by_torch = correlate(*prepared(*pair, text_index, products=TorchProducts("float64"))).means
    monkeypatch.setattr(correlation, "TILE_BYTES", 1)
    in_tiles = correlate(*prepared(*pair, text_index)).means
    np.testing.assert_allclose(by_torch, expected, atol=1e-12)
    np.testing.assert_allclose(in_tiles, expected, atol=1e-12)


def mean(prepared, x, y):
    return correlate(*prepared(x, y, groups=2)).means[0, 0, 0]


def test_forgives_scale_and_shift_of_each_dimension_and_nothing_that_mixes_them(random, prepared):
    x = random.standard_normal((3000, 32))
    assert mean(prepared, x, x * random.uniform(0.1, 9, 32) + 5) == pytest.approx(1, abs=1e-12)
    assert mean(prepared, x, -x) == pytest.approx(-1, abs=1e-12)
    assert abs(mean(prepared, x, x @ haar_rotation(32, 1))) < 0.15
    assert abs(mean(prepared, x, np.roll(x, 1, axis=1))) < 0.05
    assert abs(mean(prepared, x, x[random.permutation(3000)])) < 0.05


def test_dimensions_that_do_not_vary_are_left_out(random, prepared):
    x = random.standard_normal((100, 4))
    x[:, 1] = 3.3
    found = correlate(*prepared(x, x))
    assert found.means[0, 0, 0] == pytest.approx(1)
    assert np.isnan(found.final[0, 1])
    assert histogram(found.final[0]).sum() == 3
    still = np.full((100, 4), 2.2)
    assert correlate(*prepared(still, x)).means[0, 0, 0] == 0
    assert summary(np.full(4, np.nan)) == {}


@pytest.mark.parametrize("form", FORMS)
def test_float32_is_exact_to_1e6(prepared, form):
    random = np.random.default_rng(0)
    x = (random.standard_normal((5000, 64)) + 50).astype(np.float32)
    y = (x + random.standard_normal(x.shape)).astype(np.float32)
    single = correlate(*prepared(x, y, products=NumpyProducts("float32")), form).means
    np.testing.assert_allclose(single, correlate(*prepared(x, y)).means, atol=1e-6)


def test_summary_and_histogram():
    r = np.array([-0.5, 0.0, 0.5, 1.0])
    found = summary(r)
    assert found["min"] == -0.5
    assert found["max"] == 1.0
    assert found["p50"] == 0.25
    assert found["positive_share"] == 0.5
    assert found["absolute_mean"] == 0.5
    assert found["std"] == pytest.approx(np.std(r, ddof=1))
    counts = histogram(r)
    assert counts.sum() == 4
    assert counts[-1] == 1  # 1.0 belongs to the last bin
