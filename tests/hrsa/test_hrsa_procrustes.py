"""Orthogonal Procrustes against scipy, on rotations that are known, and on texts it has not seen."""

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial

from realign.hrsa import compare
from realign.hrsa import procrustes as p
from realign.hrsa.centred import Layer
from realign.hrsa.groups import FIRST_ORDER
from realign.hrsa.reading import haar_rotation


def sums_of(prepared, x, y, groups=20, text_index=None):
    left, right, dealt, _ = prepared(x, y, text_index, groups)
    return p.layer_sums(Layer(left, 0), Layer(right, 0), dealt)


def test_rotation_angle_and_residual_equal_scipy(random, prepared):
    x, y = random.standard_normal((2, 200, 9)) + 4
    y += x
    fitted = p.fit(sums_of(prepared, x, y))
    a, b = x - x.mean(0), y - y.mean(0)
    rotation, scale = scipy.linalg.orthogonal_procrustes(a, b)
    np.testing.assert_allclose(fitted.rotation, rotation, atol=1e-10)
    assert fitted.nuclear == pytest.approx(scale, abs=1e-8)
    assert fitted.residual == pytest.approx(((a @ rotation - b) ** 2).sum() / (b**2).sum(), abs=1e-10)
    disparity = scipy.spatial.procrustes(y, x)[2]  # 1 − cos² of the angle
    assert np.sin(fitted.angle) ** 2 == pytest.approx(disparity, abs=1e-8)


def test_a_rotated_and_shifted_copy_leaves_no_residual_on_seen_or_unseen_texts(random, prepared):
    x = random.standard_normal((300, 16))
    rotation = haar_rotation(16, 2)
    sums = sums_of(prepared, x, x @ rotation + 7)
    fitted = p.fit(sums)
    np.testing.assert_allclose(fitted.rotation, rotation, atol=1e-10)
    assert fitted.residual == pytest.approx(0, abs=1e-12)
    misfits = p.held_out(sums, [np.array([g]) for g in range(20)])
    np.testing.assert_allclose(misfits[:, 0] / misfits[:, 1], 0, atol=1e-10)
    assert p.fit(sums_of(prepared, x, 3 * x @ rotation)).angle == pytest.approx(0, abs=1e-7)


def test_is_not_blind_to_shear(random, prepared):
    x = random.standard_normal((300, 8))
    assert p.fit(sums_of(prepared, x, x @ np.diag([8.0] + [1] * 7))).angle > 0.3


def test_held_out_residual_is_what_it_says(pair, text_index, prepared):
    x, y = pair[0][1], pair[1][1]
    left, right, groups, _ = prepared(x, y, text_index)
    sums = p.layer_sums(Layer(left, 0), Layer(right, 0), groups)
    for group in (0, 13):
        keep = groups.of_row != group
        mx, my = x[keep].mean(0), y[keep].mean(0)
        rotation, _ = scipy.linalg.orthogonal_procrustes(x[keep] - mx, y[keep] - my)
        left_x, left_y = x[~keep] - mx, y[~keep] - my
        found = p.misfit(sums, p.fit(sums, [group]), np.array([group]))
        expected = ((left_x @ rotation - left_y) ** 2).sum(), (left_y**2).sum()
        assert found == pytest.approx(expected, rel=1e-9)


def test_unrelated_states_do_worse_than_the_mean_on_unseen_texts_and_better_on_seen(random, prepared):
    x, y = random.standard_normal((2, 60, 30))
    sums = sums_of(prepared, x, y)
    misfits = p.held_out(sums, [np.array([g]) for g in range(20)])
    assert misfits[:, 0].sum() / misfits[:, 1].sum() > 1.5
    assert p.fit(sums).residual < 1


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.6])
def test_the_share_of_the_basis_that_is_kept_is_the_same_at_every_number_of_texts(random, prepared, angle):
    """The entropy of an unmoved basis is 0.85 at 40 texts and 0.95 at 240; the share has no room for size."""
    width, tokens = 24, 8
    skew = random.standard_normal((width, width))
    rotation = scipy.linalg.expm(angle * (skew - skew.T) / np.sqrt(width))
    diagonal = np.diag(rotation)
    truth = (diagonal[diagonal > 0] ** 2).sum() / width
    entropies, found = [], []
    for texts in (40, 240):
        text_index = np.repeat(np.arange(texts), tokens)
        x, noise = (
            np.repeat(random.standard_normal((texts, width)), tokens, axis=0)
            + 0.7 * random.standard_normal((texts * tokens, width))
            for _ in "xy"
        )
        y = x @ rotation + 0.7 * noise
        left, right, groups, _ = prepared(x, y, text_index)
        sums = p.layer_sums(Layer(left, 0), Layer(right, 0), groups)
        entropies.append(p.inverse_row_entropies(p.fit(sums).rotation).mean())
        kept, agreement = p.basis_kept(sums, p.halves(sums), groups)
        found.append(groups.one(kept))
        assert 0.3 < agreement <= 1
    assert entropies[1] - entropies[0] > (0.05 if angle == 0 else 0.01)
    for interval in found:
        assert interval.value == pytest.approx(truth, abs=3.5 * interval.error)
        assert interval.error < 0.03


@pytest.mark.parametrize("decay", [0, 1])
def test_the_share_of_the_basis_kept_is_nan_where_the_halves_share_nothing(random, prepared, decay):
    """Of unrelated models the ratio is 0/0; of related ones it is known though most directions are noise."""
    texts, width = 57, 32
    text_index = np.repeat(np.arange(texts), 10)
    scale = np.arange(1.0, width + 1) ** -decay
    kept = np.sqrt(0.3)
    turn = np.kron(np.eye(width // 2), [[kept, np.sqrt(0.7)], [-np.sqrt(0.7), kept]])
    unrelated, related = [], []
    for _ in range(20):
        x, noise = (
            np.repeat(random.standard_normal((texts, width)), 10, axis=0)
            + random.standard_normal((texts * 10, width))
            for _ in "xy"
        )
        for found, y in ((unrelated, noise * scale), (related, x * scale @ turn + 0.3 * noise * scale)):
            left, right, groups, _ = prepared(x * scale, y, text_index)
            sums = p.layer_sums(Layer(left, 0), Layer(right, 0), groups)
            found.append(groups.one(p.basis_kept(sums, p.halves(sums), groups)[0])[:4])
    value, _, _, error = np.array(unrelated).T
    assert np.isnan(value).mean() >= 0.9
    assert (np.isnan(value) | (np.abs(value) <= 1)).all()
    assert np.isnan(error[np.isnan(value)]).all()
    value, _, _, error = np.array(related).T
    assert (np.abs(value - 0.3) < 4 * error).all()
    assert value.mean() == pytest.approx(0.3, abs=0.03)


def test_a_flipped_or_exchanged_basis_is_not_kept(random, prepared):
    x = random.standard_normal((400, 12))
    for other in (-x, x[:, ::-1]):
        sums = sums_of(prepared, x, other)
        kept, agreement = p.basis_kept(sums, p.halves(sums), prepared(x, other, None, 20)[2])
        assert kept[0] == pytest.approx(0, abs=1e-9)
        assert agreement == pytest.approx(1)


def test_uncentred_residual_is_the_published_computation(pair, text_index, prepared):
    x, y = pair[0][2], pair[1][2]
    left, right, groups, _ = prepared(x, y, text_index)
    sums = p.layer_sums(Layer(left, 0), Layer(right, 0), groups)
    fitted = p.fit(sums)
    expected = ((x @ fitted.rotation - y) ** 2).sum() / (y**2).sum()
    assert p.uncentred_residual(sums, fitted, left.shift[0], right.shift[0]) == pytest.approx(
        expected, rel=1e-9
    )


def test_rank_says_how_much_of_the_rotation_is_real(random, prepared):
    x = random.standard_normal((300, 3)) @ random.standard_normal((3, 10))
    assert p.fit(sums_of(prepared, x, x)).rank == 3


def test_rank_counts_no_rounding_and_no_direction_that_is_small_beside_massive_activations(random, prepared):
    few = random.standard_normal((2, 40, 64)).astype(np.float32)
    assert p.fit(sums_of(prepared, *few)).rank == 39
    x, y = random.standard_normal((2, 300, 8))
    y += x
    for values in (x, y):
        values[::6, 2] *= 2e4
    assert p.fit(sums_of(prepared, x, y)).rank == 8


def test_an_entropy_of_directions_that_nothing_fixes_has_no_interval(random, prepared):
    x, y = random.standard_normal((2, 40, 64))
    left, right, groups, _ = prepared(x, y)
    sums = p.layer_sums(Layer(left, 0), Layer(right, 0), groups)
    found = p.entropy_without_each(sums, p.fit(sums), groups)
    assert np.isfinite(found[0])
    assert np.isnan(found[1:]).all()


def test_the_default_precision_is_exact_with_massive_activations(massive):
    x, y = massive
    found = compare(x, y, families=["linear"])
    found = found[(found.measure == "procrustes") & (found.preset == "")].set_index("statistic").value
    a, b = (v.astype(np.float64) - v.mean(0, dtype=np.float64) for v in massive)
    rotation, nuclear = scipy.linalg.orthogonal_procrustes(a, b)
    angle = np.arccos(nuclear / (np.linalg.norm(a) * np.linalg.norm(b)))
    assert 0.5 < angle < 1.2
    assert found["angular_distance"] == pytest.approx(angle, abs=1e-8)
    residual = ((a @ rotation - b) ** 2).sum() / (b**2).sum()
    assert found["residual_in_sample"] == pytest.approx(residual, abs=1e-8)
    entropy = p.inverse_row_entropies(rotation).mean()
    assert found["inverse_row_entropy"] == pytest.approx(entropy, abs=1e-8)


def test_equal_states_are_at_no_angle_and_intervals_end_at_zero(massive):
    found = compare(massive[0], massive[0], families=["linear"])
    found = found[(found.measure == "procrustes") & (found.preset == "")].set_index("statistic")
    for statistic in ("angular_distance", "residual", "residual_in_sample"):
        row = found.loc[statistic]
        assert 0 <= row.ci_low <= row.value <= row.ci_high < 2e-7, statistic


def test_inverse_row_entropy_of_known_rotations(random):
    signed = np.eye(64)[random.permutation(64)] * random.choice([-1, 1], 64)
    for sharp in (np.eye(64), signed):
        np.testing.assert_allclose(p.inverse_row_entropies(sharp), 1, atol=1e-12)
    smear = scipy.linalg.hadamard(64) / 8
    np.testing.assert_allclose(p.inverse_row_entropies(smear), 0, atol=1e-12)
    two = np.kron(np.eye(32), np.array([[1, -1], [1, 1]]) / np.sqrt(2))
    np.testing.assert_allclose(p.inverse_row_entropies(two), 1 - np.log(2) / np.log(64), atol=1e-12)


def test_what_a_group_adds_to_the_entropy_is_the_derivative(random, prepared):
    x = random.standard_normal((4000, 12)) * np.linspace(2, 1, 12)
    y = x @ haar_rotation(12, 4) @ np.diag(np.linspace(1, 2, 12)) + random.standard_normal((4000, 12))
    left, right, groups, _ = prepared(x, y, np.repeat(np.arange(100), 40), 100)
    sums = p.layer_sums(Layer(left, 0), Layer(right, 0), groups)
    found = p.entropy_without_each(sums, p.fit(sums), groups)
    again = [p.inverse_row_entropies(p.fit(sums, [g]).rotation).mean() for g in range(100)]
    assert found[0] == pytest.approx(p.inverse_row_entropies(p.fit(sums).rotation).mean())
    changes = (found[1:] - found[0]) / FIRST_ORDER, np.array(again) - found[0]
    assert np.corrcoef(*changes)[0, 1] > 0.99
    assert changes[0].std() == pytest.approx(changes[1].std(), rel=0.03)


@pytest.mark.parametrize("width", [64, 512])
def test_a_random_rotation_has_the_analytic_mean_within_one_percent(width):
    draws = max(1, 512 // width)
    found = np.mean([p.inverse_row_entropies(haar_rotation(width, s)).mean() for s in range(draws)])
    assert found == pytest.approx(p.haar_inverse_row_entropy(width), rel=0.01)


def test_the_analytic_mean_at_the_width_of_the_paper():
    assert p.haar_inverse_row_entropy(1536) == pytest.approx(0.099, abs=5e-4)
    assert p.haar_inverse_row_entropy(896) == pytest.approx(0.107, abs=5e-4)


def test_shares_tell_identity_sign_permutation_and_smear_apart(random):
    def dominant(rotation):
        found = p.shares(rotation)
        assert sum(found.values()) == pytest.approx(1)
        return max(found, key=found.get), max(found.values())

    n = 128
    assert dominant(np.eye(n)) == ("identity_share", pytest.approx(1))
    assert dominant(-np.eye(n)) == ("sign_share", pytest.approx(1))
    assert dominant(np.roll(np.eye(n), 1, axis=0)) == ("permutation_share", pytest.approx(1))
    name, share = dominant(haar_rotation(n, 0))
    assert name == "smear_share"
    assert share > 0.85


def test_cosines_of_rows(random):
    x, y = random.standard_normal((2, 20, 5))
    y[3] = 0
    expected = [
        np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b) or 1) for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(p.cosines(x, y), expected, atol=1e-12)
