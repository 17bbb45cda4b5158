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


def song(a, b):
    """The unbiased estimate of HSIC of independent tokens (Song et al. 2012, equation 5), written out."""
    n, ones = len(a), np.ones(len(a))
    a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
    middle = (ones @ a @ ones) * (ones @ b @ ones) / ((n - 1) * (n - 2))
    return (np.trace(a @ b) + middle - 2 / (n - 2) * ones @ a @ b @ ones) / (n * (n - 3))


def over_fours(a, b, of_token):
    """The same over tokens of different groups: the mean over all fours of them, one by one."""
    fours = [f for f in permutations(range(len(a)), 4) if len(set(of_token[list(f)])) == 4]
    i, j, k, m = np.array(fours).T
    return (a[i, j] * b[i, j] - 2 * a[i, j] * b[i, k] + a[i, j] * b[k, m]).mean()


def dense_debiased_cka(x, y, hsic, *more):
    k, m = x @ x.T, y @ y.T
    return hsic(k, m, *more) / np.sqrt(hsic(k, k, *more) * hsic(m, m, *more))


@pytest.mark.parametrize("form", FORMS)
def test_equals_the_formula_for_every_pair_of_layers_and_every_group_left_out(
    pair, text_index, prepared, form
):
    left, right, groups, products = prepared(*pair, text_index)
    biased = FORMS[form](left, right, groups, products).cka()
    for place in (0, 1, 8, 20):
        keep = ~np.isin(groups.of_row, groups.lost[place])
        for i, j in np.ndindex(3, 3):
            expected = dense_cka(pair[0][i][keep], pair[1][j][keep])
            assert biased[place, i, j] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_debiased_equals_the_published_estimate_where_each_token_is_a_group(random, prepared, form):
    x = random.standard_normal((2, 40, 5)) + 3
    y = x[:, :, :4] + random.standard_normal((2, 40, 4))
    debiased = FORMS[form](*prepared(x, y, groups=40)).cka(debiased=True)
    groups = prepared(x, y, groups=40)[2]
    for place in (0, 1, 17, 40):
        keep = ~np.isin(groups.of_row, groups.lost[place])
        for i, j in np.ndindex(2, 2):
            expected = dense_debiased_cka(x[i][keep], y[j][keep], song)
            assert debiased[place, i, j] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_debiased_is_the_mean_over_fours_of_different_groups_whatever_is_left_out(random, prepared, form):
    text_index = np.repeat(np.arange(8), [1, 3, 2, 1, 1, 2, 1, 3])  # groups of unequal size
    x = random.standard_normal((1, 14, 3)) + 2
    y = 2 * x + random.standard_normal((1, 14, 3))
    left, right, groups, products = prepared(x, y, text_index, groups=6)
    found = FORMS[form](left, right, groups, products).cka(debiased=True)[:, 0, 0]
    for value, lost in zip(found, groups.lost, strict=True):
        keep = ~np.isin(groups.of_row, lost)
        expected = dense_debiased_cka(x[0][keep], y[0][keep], over_fours, groups.of_row[keep])
        assert value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("texts", [3, 4])
def test_debiased_needs_four_groups(random, prepared, texts):
    x = random.standard_normal((1, 5 * texts, 3))
    for make in FORMS.values():
        found = make(*prepared(x, x, np.repeat(np.arange(texts), 5))).cka(debiased=True)
        assert np.isnan(found[1:]).all()
        assert np.isnan(found[0]).all() == (texts < 4)


def test_unrelated_models_that_share_nothing_but_the_texts_are_unlike(prepared):
    random, text_index = np.random.default_rng(0), np.repeat(np.arange(57), 20)

    def model():  # half of its variance is the text's
        of_text = np.repeat(random.standard_normal((57, 128)), 20, axis=0)
        return of_text + random.standard_normal(of_text.shape)

    found = []
    for _ in range(10):
        left, right, groups, products = prepared(model(), model(), text_index)
        sums = cka_sums(left, right, groups, products)
        found.append(groups.one(sums.cka(debiased=True)[:, 0, 0]))
    value, low, high, _, _ = np.array(found).T
    assert abs(value.mean()) < 0.02
    assert ((low <= 0) & (high >= 0)).sum() >= 8


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
    from realign.hrsa import products as limits

    left, right, groups, products = prepared(*pair, text_index)
    whole = {name: make(left, right, groups, products).cka(True) for name, make in FORMS.items()}
    monkeypatch.setattr(cka, "STACK_BYTES", 1)
    for name in ("GRAM_BYTES", "CHUNK_BYTES", "PANEL_BYTES"):
        monkeypatch.setattr(limits, name, 1)
    for held in (centred.HELD_BYTES, 1):  # whole layers a few dimensions at a time, then blocks of them
        monkeypatch.setattr(centred, "HELD_BYTES", held)
        for name, make in FORMS.items():
            np.testing.assert_allclose(make(left, right, groups, products).cka(True), whole[name], atol=1e-12)
    monkeypatch.setattr(centred, "BLOCK_BYTES", 1)
    left, right, groups, products = prepared(*pair, np.repeat([0, 1, 2, 3, 4], [156, 24, 20, 20, 20]))
    whole = {name: make(left, right, groups, products).cka(True) for name, make in FORMS.items()}
    monkeypatch.setattr(centred, "MOST_ROWS", 16)  # a group is several blocks
    left, right, groups, products = prepared(*pair, np.repeat([0, 1, 2, 3, 4], [156, 24, 20, 20, 20]))
    for name, make in FORMS.items():
        np.testing.assert_allclose(make(left, right, groups, products).cka(True), whole[name], atol=1e-12)


@pytest.mark.parametrize("rows", [100, 200])  # of the narrower model: several blocks a group, and one
@pytest.mark.parametrize("library", [NumpyProducts, TorchProducts])
def test_models_of_unequal_width_are_cut_into_the_same_blocks(random, prepared, monkeypatch, rows, library):
    from realign.hrsa import centred

    monkeypatch.setattr(centred, "BLOCK_BYTES", 8 * 6 * rows)
    x, y = random.standard_normal((1, 400, 6)), random.standard_normal((1, 400, 24))
    for wide in ((x, y), (y, x)):
        left, right, groups, products = prepared(*wide, groups=2, products=library("float64"))
        by_gram, by_features = (make(left, right, groups, products).cka() for make in FORMS.values())
        np.testing.assert_allclose(by_features, by_gram, atol=1e-12)


def test_products_of_a_groups_blocks_add_up_from_zero_in_float64(random, prepared, monkeypatch):
    from realign.hrsa import centred

    monkeypatch.setattr(centred, "MOST_ROWS", 64)
    x, y = random.standard_normal((2, 1, 400, 6))
    left, right, groups, products = prepared(x, y, groups=2)
    by_gram, *by_features = (
        make(left, right, groups, products).cka() for make in (gram_sums, feature_sums, feature_sums)
    )
    np.testing.assert_allclose(by_features, [by_gram] * 2, atol=1e-12)


def similarity(prepared, x, y, debiased=False):
    return cka_sums(*prepared(x, y)).cka(debiased)[0, 0, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), width=st.integers(2, 12))
def test_forgives_rotation_scale_and_shift(seed, scale, width):
    from realign.hrsa.centred import both_sides
    from realign.hrsa.groups import Groups
    from realign.hrsa.reading import ArrayStates

    random, products = np.random.default_rng(seed), NumpyProducts("float64")
    x, y = random.standard_normal((40, width)), random.standard_normal((40, width + 1))
    moved = scale * (x @ haar_rotation(width, seed)) + random.standard_normal(width)
    groups = Groups(np.arange(40), 8)

    def of(a, b):
        sides = both_sides(ArrayStates(a), ArrayStates(b), groups, products)
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
def test_float32_products_are_exact_on_large_matrices_with_massive_activations(form, make, prepared, massive):
    x, y = massive
    exact = FORMS["features"](*prepared(x, y))
    single = FORMS[form](*prepared(x, y, products=make("float32")))
    for debiased in (False, True):
        assert 0.4 < exact.cka(debiased)[0, 0, 0] < 0.6
        # in float32 throughout, a thousand times as much would be lost
        np.testing.assert_allclose(single.cka(debiased), exact.cka(debiased), atol=1e-7)


def test_the_cheaper_form_follows_the_shape(random, prepared):
    few, many = (prepared(*random.standard_normal((2, 4, n, 16))) for n in (30, 500))
    assert gram_is_cheaper(30, few[0], few[1])
    assert not gram_is_cheaper(500, many[0], many[1])


@pytest.mark.parametrize("form", ["features", "gram"])
def test_a_device_gets_the_states_once_and_gives_sums_alone(form, prepared, monkeypatch):
    """What crosses between host and device, in bytes: `_there` is the way there, `_back` the way back."""
    moved = {"up": 0, "down": 0}
    there, back = TorchProducts._there, TorchProducts._back

    def counted_there(self, values):
        moved["up"] += values.nbytes if isinstance(values, np.ndarray) else 0
        return there(self, values)

    def counted_back(values):
        found = back(values)
        moved["down"] += found.nbytes
        return found

    monkeypatch.setattr(TorchProducts, "_there", counted_there)
    monkeypatch.setattr(TorchProducts, "_back", staticmethod(counted_back))
    layers, tokens, width, texts = 3, 400, 16, 10
    made = np.random.default_rng(0).standard_normal((2, layers, tokens, width)).astype(np.float32)
    left, right, groups, products = prepared(*made, np.arange(tokens) % texts, products=TorchProducts())
    cka_sums(left, right, groups, products, form=form)
    assert moved["up"] == made.nbytes
    pairs = layers**2 + 2 * layers
    if form == "features":  # of a pair of layers, sums by two groups, and by group and dimension
        assert moved["down"] == 8 * pairs * (texts**2 + texts * width)
    else:  # of two groups, a sum for each pair of layers
        assert moved["down"] == 8 * pairs * texts * (texts + 1) / 2
