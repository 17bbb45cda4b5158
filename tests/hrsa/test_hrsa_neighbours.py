"""Neighbour overlap against a dense search, with ties, groups left out, and texts kept apart."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from realign.artifacts.command import UserError
from realign.hrsa import compare
from realign.hrsa.groups import Groups
from realign.hrsa.neighbours import compare_lists, nearest
from realign.hrsa.reading import haar_rotation

TEXTS = np.repeat(np.arange(24), 5)


def dense_lists(x, k, metric, forbidden):
    """The k nearest by a full matrix in float64, equal distances going to the lower index."""
    if metric == "cosine":
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        distance = -unit @ unit.T
    else:
        distance = ((x[:, None] - x[None]) ** 2).sum(-1)
    distance = np.where(forbidden, np.inf, np.round(distance, 12))
    return np.argsort(distance, axis=1, kind="stable")[:, :k]


def jaccard(a, b):
    shared = [len(set(p) & set(q)) for p, q in zip(a, b, strict=True)]
    return np.mean([s / (2 * a.shape[1] - s) for s in shared]), np.mean([s / a.shape[1] for s in shared])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("same_text", [True, False])
def test_whole_and_every_group_left_out_equal_a_dense_search(random, metric, same_text):
    x = random.standard_normal((120, 6))
    y = x + 0.4 * random.standard_normal((120, 6))
    groups = Groups(TEXTS, 12)
    lists = [nearest(v, 7, metric, TEXTS, groups, same_text) for v in (x, y)]
    found = compare_lists(*lists, (3, 7), groups)
    for left_out in (-1, 0, 5, 11):
        keep = groups.of_row != left_out
        own = np.eye(120, dtype=bool) if same_text else TEXTS[:, None] == TEXTS
        for k in (3, 7):
            dense = [dense_lists(v[keep], k, metric, own[np.ix_(keep, keep)]) for v in (x, y)]
            expected = jaccard(*dense)
            overlap = found[k]
            assert overlap.means("knn_overlap")[left_out + 1] == pytest.approx(expected[0], abs=1e-12)
            assert overlap.means("mutual_knn")[left_out + 1] == pytest.approx(expected[1], abs=1e-12)


def test_equals_scikit_learn(random):
    x = random.standard_normal((120, 6))
    for metric in ("cosine", "euclidean"):
        theirs = NearestNeighbors(n_neighbors=9, metric=metric).fit(x).kneighbors(return_distance=False)
        ours = nearest(x, 9, metric, TEXTS, Groups(TEXTS, 20))[:, :9]
        np.testing.assert_array_equal(ours, theirs)


def test_equal_tokens_are_ranked_alike_in_both_models(random):
    # A vocabulary of four: most neighbours are exact twins, as at the embedding layer.
    of_token = random.integers(0, 4, 120)
    left, right = random.standard_normal((2, 4, 8))
    d = compare(left[of_token], right[of_token], TEXTS, families=["neighbours"], k=(5,))
    twins = d[(d.measure == "knn_overlap") & (d.statistic == "mean")]
    assert twins.value.item() == 1.0
    lists = nearest(left[of_token], 5, "cosine", TEXTS, Groups(TEXTS, 20))
    for row in (0, 60):
        same = np.flatnonzero(of_token == of_token[row])
        np.testing.assert_array_equal(lists[row, :5], same[same != row][:5])


def overlap(x, y, **settings):
    d = compare(x, y, TEXTS, families=["neighbours"], k=(5,), **settings)
    return d[(d.measure == "knn_overlap") & (d.statistic == "mean")].iloc[0]


def test_forgives_rotation_and_scale_and_nothing_else(random):
    x = random.standard_normal((120, 6))
    assert overlap(x, 3 * x @ haar_rotation(6, 0)).value == 1
    assert overlap(x, 3 * x @ haar_rotation(6, 0) + 2, metric="euclidean").value == 1
    assert overlap(x, x @ np.diag([9, 1, 1, 1, 1, 1.0])).value < 0.7
    assert overlap(x, x + 2).value < 0.7  # cosine has an origin
    assert overlap(x, x[random.permutation(120)]).value < 0.15


def test_unrelated_states_overlap_by_chance(random):
    # k neighbours out of 119 each: k²/119 shared on average
    found = [overlap(*random.standard_normal((2, 120, 6))).value for _ in range(10)]
    expected = (25 / 119) / (10 - 25 / 119)
    assert np.mean(found) == pytest.approx(expected, rel=0.25)


def test_more_neighbours_than_tokens_is_an_error(random):
    x = random.standard_normal((40, 3))
    with pytest.raises(UserError, match="50 neighbours are asked for, and only 39"):
        compare(x, x, families=["neighbours"])
    with pytest.raises(UserError, match="only 30"):
        compare(x, x, np.repeat([0, 1, 2, 3], 10), families=["neighbours"], k=(31,), same_text=False)


def test_a_sample_of_tokens_is_the_same_for_both_models_and_all_layers(random):
    x = random.standard_normal((3, 120, 6))
    d = compare(x, x[:, :, ::-1].copy(), TEXTS, families=["neighbours"], k=(5,), max_tokens=50)
    assert (d[d.measure == "knn_overlap"].value == 1).all()
    assert d[d.statistic == "tokens"].value.item() == 50
