"""A gain over queries is the paired one, and needs both models to have met the same queries."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from realign.artifacts.command import UserError
from realign.results.queries import query_gains


def scored(model: str, values: np.ndarray, subset: str = "default", preset: str = "") -> pd.DataFrame:
    rows = {"query": [f"q{i}" for i in range(len(values))], "value": values}
    return pd.DataFrame(rows).assign(
        embedder=model, task="Search", split="test", subset=subset, metric="ndcg_at_10", preset=preset
    )


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    hard = random.uniform(0, 0.8, 200)
    return hard, np.clip(hard + random.normal(0.03, 0.1, 200), 0, 1)


def test_the_interval_is_scipys_paired_one(sides):
    left, right = sides
    other = scored("trained", right - 1, preset="one_bright_instruction")
    table = pd.concat([scored("raw", left), scored("trained", right).sample(frac=1, random_state=0), other])
    gain = query_gains(table, "raw", "trained")["Search"]
    expected = stats.ttest_rel(right, left).confidence_interval()
    assert gain.interval() == pytest.approx((expected.low, expected.high))
    assert gain.value == pytest.approx(right.mean() - left.mean())
    assert gain.interval()[0] > 0 > stats.ttest_ind(right, left).confidence_interval().low


def test_subsets_weigh_alike_and_their_errors_add(sides):
    left, right = sides
    sides_of_small = [scored("raw", left[:20], "small"), scored("trained", right[:20], "small")]
    table = pd.concat([scored("raw", left), scored("trained", right), *sides_of_small])
    gain = query_gains(table, "raw", "trained")["Search"]
    parts = [right - left, (right - left)[:20]]
    assert gain.value == pytest.approx(np.mean([p.mean() for p in parts]))
    assert gain.error == pytest.approx(np.sqrt(sum(p.var(ddof=1) / len(p) for p in parts)) / 2)


def test_other_queries_are_refused(sides):
    left, right = sides
    table = pd.concat([scored("raw", left), scored("trained", right[:-1])])
    with pytest.raises(UserError, match=r"not scored on the same queries.*q199"):
        query_gains(table, "raw", "trained")
    with pytest.raises(UserError, match="of nobody"):
        query_gains(table, "raw", "nobody")
