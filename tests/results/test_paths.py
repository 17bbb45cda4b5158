"""Planted paths in noise: their length, their turning and where they begin to change are found again."""

import numpy as np
import pytest

from realign.results.paths import change_point, path_length, straightness, turning

WIDTH, POINTS, SIGMA = 400, 12, 0.002


def planted(shape, draw):
    """Points of a path of length 1, as many steps of equal length."""
    steps = np.zeros((POINTS, WIDTH))
    if shape == "line":
        steps[:, 0] = 1
    elif shape == "circle":
        angles = 2 * np.pi * (np.arange(POINTS) + 0.5) / POINTS
        steps[:, 0], steps[:, 1] = np.cos(angles), np.sin(angles)
    else:
        steps = draw.normal(size=steps.shape)
    steps /= POINTS * np.linalg.norm(steps, axis=1, keepdims=True)
    return np.concatenate([np.zeros((1, WIDTH)), steps.cumsum(0)])


def distances(points):
    from_start, steps = points[1:] - points[0], points[1:] - points[:-1]
    return (from_start**2).sum(1), (steps**2).sum(1)


@pytest.mark.parametrize(
    ("shape", "straight", "cosine"), [("line", 1, 1), ("circle", 0, None), ("walk", POINTS**-0.5, 0)]
)
@pytest.mark.parametrize("sigma", [0, SIGMA])
def test_a_planted_paths_length_and_turning(shape, straight, cosine, sigma):
    draw = np.random.default_rng(4)
    points = planted(shape, draw)
    points = points + sigma * draw.normal(size=points.shape)
    from_start, steps = distances(points)
    noise = 2 * WIDTH * sigma**2
    length = path_length(steps, noise).value
    assert length == pytest.approx(1, abs=0.03 if sigma else 1e-9)
    assert sigma == 0 or path_length(steps).value > 1.15 * length  # what noise would make of it
    displacement = np.sqrt(max(from_start[-1] - noise, 0))
    found = turning(from_start, steps, noise)
    assert straightness(displacement, length) == pytest.approx(straight, abs=0.1)
    if cosine is not None:
        assert found == pytest.approx(cosine, abs=0.15)
    else:
        assert found < 0.5


def test_a_length_has_the_interval_of_its_distances():
    found = path_length([1.0, 4.0], errors=[0.1, 0.2])
    assert found.value == pytest.approx(3)
    assert found.low == pytest.approx(np.sqrt(1 - 0.196) + np.sqrt(4 - 0.392), abs=1e-4)
    assert found.high == pytest.approx(np.sqrt(1 + 0.196) + np.sqrt(4 + 0.392), abs=1e-4)
    assert path_length([0.01], noise=0.02).value == 0


@pytest.mark.parametrize("errors", [[], [0.1, np.nan], [np.inf, 0.1]])
def test_a_length_without_all_errors_has_no_interval(errors):
    found = path_length([1.0, 4.0], errors=errors)
    assert found.value == pytest.approx(3)
    assert np.isnan([found.low, found.high]).all()


def test_a_change_point_lies_in_its_interval_as_often_as_is_said():
    draw, places, held, found = np.random.default_rng(1), np.arange(10.0), 0, []
    truth = np.maximum(places - 4.3, 0) * -0.1
    for _ in range(200):
        point = change_point(places, 1 + truth + 0.02 * draw.normal(size=10), np.full(10, 0.02))
        found.append(point.value)
        held += point.low - 0.03 <= 4.3 <= point.high + 0.03  # the grid's own steps
    assert np.mean(found) == pytest.approx(4.3, abs=0.1)
    assert 0.9 <= held / 200 <= 0.99


def test_a_curve_that_has_no_corner_has_no_sure_change_point():
    places = np.arange(10.0)
    found = change_point(places, 1 - np.exp(-places / 3), np.full(10, 0.001))
    assert found.high - found.low > 0.5


def test_no_change_point_where_nothing_changes():
    draw, places = np.random.default_rng(2), np.arange(10.0)
    found = [change_point(places, 0.02 * draw.normal(size=10), np.full(10, 0.02)) for _ in range(200)]
    assert np.mean([np.isfinite(point.value) for point in found]) < 0.08
    assert np.isnan(change_point([0, 1], [0, 1], [0.1, 0.1]).value)
