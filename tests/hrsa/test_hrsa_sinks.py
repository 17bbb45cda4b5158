"""Attention sinks: found by a stated rule, and linear measures without them."""

import numpy as np
import pytest

from realign.hrsa import compare

TEXTS, EACH, WIDTH = 57, 20, 32
TEXT_INDEX = np.repeat(np.arange(TEXTS), EACH)


def model(random):
    """Two layers of tokens; half of the variance is the text's."""
    of_text = np.repeat(random.standard_normal((2, TEXTS, WIDTH)), EACH, axis=1)
    return of_text + random.standard_normal(of_text.shape)


def with_sinks(states, texts):
    """The same states; the first tokens of some texts share one huge dimension."""
    states = states.copy()
    states[:, : texts * EACH : EACH, 0] += 300.0
    return states


def one(table, measure, statistic, preset="", layer=1):
    rows = table[(table.measure == measure) & (table.statistic == statistic) & (table.preset == preset)]
    rows = rows[rows.layer_left.isna()] if layer is None else rows[rows.layer_left == layer]
    return rows[rows.layer_right.isna() | (rows.layer_left == rows.layer_right)].value.item()


@pytest.mark.parametrize("texts", [1, 4, 57])
def test_unrelated_models_are_unlike_without_the_sinks_that_they_share(random, texts):
    left, right = (with_sinks(model(random), texts) for _ in "01")
    table = compare(left, right, TEXT_INDEX, families="linear")
    assert one(table, "sinks", "count", layer=None) == texts
    assert one(table, "cka_debiased", "value", "without_sinks") < 0.1
    assert one(table, "cka_debiased", "mean_over_layers", "without_sinks", None) < 0.1
    if texts > 1:
        assert one(table, "cka_debiased", "value") > 0.9  # what the sinks alone make of it


def test_numbers_without_sinks_are_those_of_the_other_tokens(random):
    left, right = model(random), model(random)
    right = 0.5 * left + 0.5 * right
    sunk = compare(with_sinks(left, 30), with_sinks(right, 30), TEXT_INDEX, families="linear")
    others = np.ones(TEXTS * EACH, bool)
    others[: 30 * EACH : EACH] = False
    alone = compare(left[:, others], right[:, others], TEXT_INDEX[others], families="linear")
    columns = ["measure", "statistic", "layer_left", "value", "ci_low", "ci_high", "se"]
    without = sunk[sunk.preset == "without_sinks"][columns].reset_index(drop=True)
    expected = alone[
        (alone.preset == "") & (alone.layer_left.isna() | (alone.layer_left == alone.layer_right))
    ]
    merged = without.merge(expected[columns], on=columns[:3], suffixes=("", "_expected"))
    assert len(merged) == len(without) == 2 * 3 + 3 + 7  # layers, means, and the final layer's rotation
    for column in columns[3:]:
        np.testing.assert_allclose(merged[column], merged[f"{column}_expected"], rtol=2e-5, atol=1e-6)


def test_a_model_without_sinks_has_no_rows_without_them(random):
    left = model(random)
    table = compare(left, left + 0.1 * model(random), TEXT_INDEX, families="linear")
    assert one(table, "sinks", "count", layer=None) == 0
    assert not (table.preset == "without_sinks").any()


def test_the_share_of_variance_that_top_tokens_and_dimensions_carry(random):
    left = model(random)
    left[1, 5, 3] += 1e4  # one of 1,140 tokens; two are the top thousandth
    table = compare(left, model(random), TEXT_INDEX, families="linear")
    shares = table[(table.measure == "sinks") & (table.layer_left == 1) & (table.direction == "left")]
    centred = left[1] - left[1].mean(0)
    energy = centred**2
    expected = {
        "top_tokens_share": np.sort(energy.sum(1))[-2:].sum() / energy.sum(),
        "top_dimension_share": energy.sum(0).max() / energy.sum(),
    }
    assert dict(zip(shares.statistic, shares.value, strict=True)) == pytest.approx(expected)


def test_a_group_that_is_all_sinks_leaves_the_numbers_out(random, caplog):
    left = model(random)
    left[:, :EACH] *= 100  # a text is all sinks, and each group is one text
    table = compare(left, model(random), TEXT_INDEX, families="linear", groups=57)
    assert not (table.preset == "without_sinks").any()
    assert "too few others remain" in caplog.text
