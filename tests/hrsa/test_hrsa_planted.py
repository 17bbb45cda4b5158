"""What each level of the analysis must notice, on states in which one change was planted."""

import numpy as np
import pytest

from realign.hrsa import compare
from realign.hrsa.procrustes import haar_inverse_row_entropy
from realign.hrsa.reading import haar_rotation

WIDTH = 64
TEXTS = np.repeat(np.arange(40), 30)


@pytest.fixture(scope="module")
def states():
    """Clusters of near tokens in directions of falling variance: global and local geometry."""
    random = np.random.default_rng(5)
    centres = random.standard_normal((60, WIDTH)) * np.linspace(3, 0.5, WIDTH)
    cluster = random.integers(0, 60, len(TEXTS))
    return centres[cluster] + 0.3 * random.standard_normal((len(TEXTS), WIDTH)), cluster


def numbers(left, right, **settings):
    d = compare(
        left, right, TEXTS, families=["linear", "neighbours"], k=(10,), precision="float64", **settings
    )
    d = d[d.preset != "published"]

    def value(measure, statistic):
        return d[(d.measure == measure) & (d.statistic == statistic)].value.iloc[0]

    return {
        "cka": value("cka", "value"),
        "correlation": value("correlation", "mean"),
        "entropy": value("procrustes", "inverse_row_entropy"),
        "residual": value("procrustes", "residual"),
        "overlap": value("knn_overlap", "mean"),
    }


def test_identity(states):
    found = numbers(states[0], states[0])
    assert found == pytest.approx(
        {"cka": 1, "correlation": 1, "entropy": 1, "residual": 0, "overlap": 1}, abs=1e-9
    )


def test_signed_permutation_keeps_the_entropy_and_loses_the_correlation(states):
    random = np.random.default_rng(0)
    change = np.eye(WIDTH)[random.permutation(WIDTH)] * random.choice([-1, 1], WIDTH)
    found = numbers(states[0], states[0] @ change)
    assert found["entropy"] == pytest.approx(1, abs=1e-9)
    assert found["cka"] == pytest.approx(1, abs=1e-9)
    assert found["overlap"] == 1
    assert abs(found["correlation"]) < 0.2


def test_a_planted_rotation_lowers_correlation_and_entropy_and_nothing_else(states):
    found = numbers(states[0], states[0] @ haar_rotation(WIDTH, 1))
    assert found["cka"] == pytest.approx(1, abs=1e-9)
    assert found["overlap"] == 1
    assert found["residual"] == pytest.approx(0, abs=1e-9)
    assert abs(found["correlation"]) < 0.2
    assert found["entropy"] == pytest.approx(haar_inverse_row_entropy(WIDTH), rel=0.05)


def test_a_planted_local_shuffle_lowers_overlap_and_not_cka(states):
    x, cluster = states
    random, order = np.random.default_rng(0), np.arange(len(x))
    for c in np.unique(cluster):  # tokens change places within their cluster
        members = np.flatnonzero(cluster == c)
        order[members] = random.permutation(members)
    found = numbers(x, x[order])
    assert found["cka"] > 0.97
    assert found["correlation"] > 0.9
    assert found["overlap"] < 0.5


def test_the_floor_of_shuffled_tokens(states):
    found = numbers(states[0], states[0], floor="shuffled")
    assert found["overlap"] < 0.03
    assert abs(found["correlation"]) < 0.05
    assert found["cka"] < 0.15
    assert found["residual"] > 0.9


def test_the_floor_of_a_random_rotation(states):
    found = numbers(np.stack([states[0]] * 2), np.stack([states[0]] * 2), floor="rotated")
    assert found["cka"] == pytest.approx(1, abs=1e-9)
    assert found["overlap"] == 1
    assert found["entropy"] == pytest.approx(haar_inverse_row_entropy(WIDTH), rel=0.05)


def test_the_floor_of_tokens_shuffled_within_texts_is_what_models_share_by_their_texts_alone(random):
    text_index = random.permutation(np.repeat(np.arange(40), 20))  # whatever order the tokens stand in
    of_text, x = random.standard_normal((40, 12)), random.standard_normal((800, 12))
    x += 1.5 * of_text[text_index]
    found = [
        compare(x, x, text_index, families="neighbours", k=(10,), floor=floor)
        .query("statistic == 'mean'")
        .value.iloc[0]
        for floor in ("shuffled", "shuffled_in_texts")
    ]
    assert found[0] < 0.02
    assert found[1] > 0.08


@pytest.mark.parametrize("floor", ["rotated", "shuffled"])
def test_a_floor_is_made_of_the_left_model_alone(states, random, floor):
    other = random.standard_normal(np.shape(states[0]))
    assert numbers(states[0], other, floor=floor) == numbers(states[0], states[0], floor=floor)


def test_a_layer_of_equal_tokens_has_no_rotation(states):
    x = states[0]
    found = compare(np.stack([np.ones_like(x), x]), np.stack([x, x]), TEXTS, families=["linear"])
    of_first = found[(found.measure == "procrustes") & (found.layer_left == 0)]
    assert dict(zip(of_first.statistic, of_first.value, strict=True)) == {"rank": 0}
