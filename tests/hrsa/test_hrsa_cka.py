"""Linear CKA against its formula, its invariances, what it must not forgive, and itself by another way."""

from dataclasses import fields
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realign.hrsa.cka import cka_sums, feature_sums, gram_is_cheaper, gram_sums
from realign.hrsa.kernel_sums import KernelSums
from realign.hrsa.products import NumpyProducts
from realign.hrsa.reading import haar_rotation
from realign.hrsa.torch_products import TorchProducts

FORMS = {"gram": gram_sums, "features": feature_sums}


def dense_cka(x, y):
    """tr(KHLH) / sqrt(tr(KHKH) tr(LHLH)), written out."""
    h = np.eye(len(x)) - 1 / len(x)
    k, m = h @ (x @ x.T) @ h, h @ (y @ y.T) @ h
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def dense_debiased_cka(x, y):
    """The unbiased estimate of HSIC (Song et al. 2012, equation 5) for each of the three, written out."""

    def hsic(a, b):
        n, ones = len(a), np.ones(len(a))
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        middle = (ones @ a @ ones) * (ones @ b @ ones) / ((n - 1) * (n - 2))
        return (np.trace(a @ b) + middle - 2 / (n - 2) * ones @ a @ b @ ones) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("form", FORMS)
def test_equals_the_formula_for_every_pair_of_layers_and_every_group_left_out(
    pair, text_index, prepared, form
):
    left, right, groups, products = prepared(*pair, text_index)
    sums = FORMS[form](left, right, groups, products)
    biased = sums.cka()
    for place in (0, 1, 8, 20):
        keep = ~np.isin(groups.of_row, groups.lost[place])
        for i, j in np.ndindex(3, 3):
            x, y = pair[0][i][keep], pair[1][j][keep]
            assert biased[place, i, j] == pytest.approx(dense_cka(x, y), abs=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_debiased_is_the_unbiased_estimate_where_every_token_is_a_group(random, prepared, form):
    x = random.standard_normal((2, 30, 5))
    y = x + random.standard_normal(x.shape)
    debiased = FORMS[form](*prepared(x, y, groups=30)).cka(debiased=True)
    for place in (0, 1, 30):
        keep = np.arange(30) != place - 1
        if place:
            keep = prepared(x, y, groups=30)[2].of_row != place - 1
        for i, j in np.ndindex(2, 2):
            expected = dense_debiased_cka(x[i][keep], y[j][keep])
            assert debiased[place, i, j] == pytest.approx(expected, abs=1e-10)


def mean_over_four_groups(k, m, group):
    """HSIC as the plain mean over tokens of four different groups."""
    fours = [f for f in permutations(range(len(group)), 4) if len({group[i] for i in f}) == 4]
    i, j, a, b = np.array(fours).T
    return (k[i, j] * m[i, j] + k[i, j] * m[a, b] - 2 * k[i, j] * m[i, a]).mean()


@pytest.mark.parametrize("form", FORMS)
def test_debiased_is_the_mean_over_tokens_of_four_different_groups(random, prepared, form):
    text_index = np.repeat(np.arange(6), [1, 3, 2, 1, 4, 2])
    x = random.standard_normal((13, 3))
    y = x @ random.standard_normal((3, 4)) + random.standard_normal((13, 4))
    left, right, groups, products = prepared(x, y, text_index, groups=6)
    sums = FORMS[form](left, right, groups, products)
    for place in (0, 2, 6):
        keep = ~np.isin(groups.of_row, groups.lost[place])
        k, m, group = (x @ x.T)[keep][:, keep], (y @ y.T)[keep][:, keep], groups.of_row[keep]
        across, one, other = (mean_over_four_groups(*two, group) for two in ((k, m), (k, k), (m, m)))
        found = sums.across.debiased[place, 0, 0], sums.left.debiased[place, 0], sums.right.debiased[place, 0]
        np.testing.assert_allclose(found, (across, one, other), rtol=1e-9)


def test_debiased_is_near_zero_for_unrelated_states_whose_tokens_share_their_text(random, prepared):
    text_index = np.repeat(np.arange(57), 10)

    def states():
        return np.repeat(random.standard_normal((57, 64)), 10, axis=0) + random.standard_normal((570, 64))

    found = [cka_sums(*prepared(states(), states(), text_index)).cka(True)[0, 0, 0] for _ in range(10)]
    assert abs(np.mean(found)) < 0.02


def test_with_three_groups_no_debiased_value_is_known(random, prepared):
    x, y = random.standard_normal((2, 30, 4))
    sums = cka_sums(*prepared(x, y, np.arange(30) % 3, groups=3))
    assert np.isnan(sums.cka(True)).all()
    assert np.isfinite(sums.cka(False)).all()


def test_both_forms_and_both_libraries_give_the_same_sums(pair, text_index, prepared):
    left, right, groups, products = prepared(*pair, text_index)
    by_features = feature_sums(left, right, groups, products)
    others = [gram_sums(left, right, groups, products)]
    left, right, groups, on_torch = prepared(*pair, text_index, products=TorchProducts("float64"))
    others += [gram_sums(left, right, groups, on_torch), feature_sums(left, right, groups, on_torch)]
    for other in others:
        for part in ("across", "left", "right"):
            for field in fields(KernelSums):
                a, b = (getattr(getattr(s, part), field.name) for s in (by_features, other))
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * np.abs(a).max())


def test_blocks_and_tiles_of_any_size_give_the_same(pair, text_index, prepared, monkeypatch):
    from realign.hrsa import centred, cka

    left, right, groups, products = prepared(*pair, text_index)
    whole = {name: make(left, right, groups, products).cka(True) for name, make in FORMS.items()}
    monkeypatch.setattr(cka, "GRAM_BYTES", 1)
    monkeypatch.setattr(cka, "TILE_BYTES", 1)
    monkeypatch.setattr(centred, "BLOCK_BYTES", 1)
    for name, make in FORMS.items():
        np.testing.assert_allclose(make(left, right, groups, products).cka(True), whole[name], atol=1e-12)


def similarity(prepared, x, y, debiased=False):
    return cka_sums(*prepared(x, y, groups=10)).cka(debiased)[0, 0, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), width=st.integers(2, 12))
def test_forgives_rotation_scale_and_shift(seed, scale, width):
    from realign.hrsa.centred import Side
    from realign.hrsa.groups import Groups
    from realign.hrsa.reading import ArrayStates

    random, products = np.random.default_rng(seed), NumpyProducts("float64")
    x, y = random.standard_normal((40, width)), random.standard_normal((40, width + 1))
    moved = scale * (x @ haar_rotation(width, seed)) + random.standard_normal(width)
    groups = Groups(np.arange(40), 8)

    def of(a, b):
        sides = [Side(ArrayStates(v), groups, products) for v in (a, b)]
        return np.stack([cka_sums(*sides, groups, products).cka(d) for d in (False, True)])

    np.testing.assert_allclose(of(x, y), of(moved, y), atol=1e-9)
    np.testing.assert_allclose(of(x, moved)[0], 1, atol=1e-9)
    found = of(x, y)
    assert np.isfinite(found).all()
    assert (np.abs(found) <= 1).all()
    assert (found[0] >= 0).all()


def test_does_not_forgive_shear_stretch_or_shuffling(random, prepared):
    x = random.standard_normal((400, 8))
    stretch = np.diag([10.0, 1, 1, 1, 1, 1, 1, 1])
    shear = np.eye(8) + 3 * np.eye(8, k=1)
    for changed in (x @ stretch, x @ shear, x[random.permutation(400)]):
        assert similarity(prepared, x, changed) < 0.9


def test_closed_form_of_one_common_direction(prepared):
    # X has two orthogonal directions of equal variance and Y only the first: CKA = 1/√2.
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = np.stack([np.cos(angle), np.sin(angle)], 1)
    assert similarity(prepared, x, x[:, :1]) == pytest.approx(1 / np.sqrt(2), abs=1e-12)


def test_debiased_is_near_zero_for_unrelated_states_where_biased_is_not(random, prepared):
    values = [
        [similarity(prepared, *random.standard_normal((2, 60, 40)), debiased=d) for d in (False, True)]
        for _ in range(20)
    ]
    biased, debiased = np.mean(values, 0)
    assert biased > 0.3
    assert abs(debiased) < 0.02


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_that_does_not_vary_is_like_nothing(random, prepared, form):
    x = random.standard_normal((2, 50, 4))
    x[0] = [0.1, 1e8, -3.3, 7.7]
    sums = FORMS[form](*prepared(x, x))
    for debiased in (False, True):
        found = sums.cka(debiased)
        assert np.isfinite(found).all()
        assert (found[:, 0] == 0).all()
        np.testing.assert_allclose(found[:, 1, 1], 1, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [NumpyProducts, TorchProducts])
def test_float32_products_are_exact_to_1e6_on_large_matrices_with_massive_activations(form, make, prepared):
    random = np.random.default_rng(0)
    x = random.standard_normal((3000, 128)).astype(np.float32) + 5
    x[:, 3] *= 300  # one dimension dwarfs all others, as massive activations do
    x[::50, 3] *= 10
    y = x @ random.standard_normal((128, 128)).astype(np.float32) / 12
    y += random.standard_normal(y.shape).astype(np.float32) * 20
    exact = FORMS["features"](*prepared(x, y))
    single = FORMS[form](*prepared(x, y, products=make("float32")))
    for debiased in (False, True):
        np.testing.assert_allclose(single.cka(debiased), exact.cka(debiased), atol=1e-6)


def test_the_cheaper_form_follows_the_shape(random, prepared):
    few, many = (prepared(*random.standard_normal((2, 4, n, 16))) for n in (30, 500))
    assert gram_is_cheaper(30, few[0], few[1])
    assert not gram_is_cheaper(500, many[0], many[1])
