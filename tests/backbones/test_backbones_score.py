"""Scores of a backbone: known numbers in, known numbers out, and pairs taken one by one."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from backbones_help import make

from realign.artifacts.command import UserError
from realign.backbones.corpus import Text
from realign.backbones.layout import load_tokenizer
from realign.backbones.model import load_backbone
from realign.backbones.score import Resampling, chosen_problems, metrics, read_aloud
from realign.study.backbones import ScoreBackbone
from realign.text.problems import Problem

SETTINGS = {
    "problem_count": 8, "samples": 2, "text_count": 4, "text_tokens": 32, "held_out": 0.2,
    "max_new_tokens": 8, "resamples": 200,
}  # fmt: skip


def inputs(corpora, model):
    return {"model": model, "problems": corpora / "heldout.jsonl", "text": corpora / "text.jsonl"}


@pytest.fixture(scope="module")
def scored(tmp_path_factory, corpora, base):
    names = {"study": "s", "backbone": "base"}
    return make("score_backbone", SETTINGS | names, inputs(corpora, base), tmp_path_factory.mktemp("scored"))


def test_the_tidy_results_have_their_columns(scored, base):
    rows = pq.read_table(scored / "metrics").to_pylist()
    assert set(rows[0]) == {
        "study", "backbone", "kind", "base", "metric", "split", "value", "ci_low", "ci_high", "n"
    }  # fmt: skip
    by_metric = {(r["metric"], r["split"]): r for r in rows}
    assert {"pass_rate", "perplexity", "parameters"} <= {m for m, _ in by_metric}
    assert ("pass_rate", "heldout/sum") in by_metric
    assert by_metric["pass_rate", "heldout"]["n"] == 8
    assert [r["split"] for r in rows if r["metric"] == "pass_rate"][-1] == "heldout"  # tables take the last
    assert by_metric["perplexity", "heldout"]["n"] == 4
    for row in rows:
        assert row["ci_low"] <= row["value"] <= row["ci_high"]


def test_a_backbone_against_itself_gains_exactly_nothing(scored, corpora, base, tmp_path):
    given = inputs(corpora, base) | {"base_details": scored / "details"}
    again = make("score_backbone", SETTINGS | {"backbone": "twin", "base": "base"}, given, tmp_path)
    rows = {(r["metric"], r["split"]): r for r in pq.read_table(again / "metrics").to_pylist()}
    gain, ratio = rows["pass_rate_gain", "heldout"], rows["perplexity_ratio", "heldout"]
    assert [gain[k] for k in ("value", "ci_low", "ci_high")] == [0.0, 0.0, 0.0]
    assert [ratio[k] for k in ("value", "ci_low", "ci_high")] == [1.0, 1.0, 1.0]


def test_other_problems_are_not_compared_in_silence(scored, corpora, base, tmp_path):
    details = json.loads((scored / "details").read_text())
    details["problems"].popitem()
    (tmp_path / "details.json").write_text(json.dumps(details))
    given = inputs(corpora, base) | {"base_details": tmp_path / "details.json"}
    with pytest.raises(UserError, match="was not put to the base"):
        make("score_backbone", SETTINGS, given, tmp_path / "made")


def answered(passed: list[float], greedy: float = 0.0) -> dict:
    return {
        "task": "sum",
        "difficulty": 1,
        "passed": passed,
        "formatted": passed,
        "length": [3],
        "greedy": greedy,
    }


def test_pass_rates_gains_and_perplexities_by_hand():
    before = {
        "problems": {"a": answered([0, 0]), "b": answered([1, 0])},
        "texts": {"x": {"nats": 2.0, "tokens": 2, "bytes": 8}, "y": {"nats": 6.0, "tokens": 2, "bytes": 8}},
    }
    after = {
        "problems": {"a": answered([1, 0]), "b": answered([1, 1], greedy=1.0)},
        "texts": {"x": {"nats": 3.0, "tokens": 2, "bytes": 8}, "y": {"nats": 6.0, "tokens": 2, "bytes": 8}},
    }
    found = {(m, s): e.value for m, s, e in metrics(after, before, ScoreBackbone(resamples=100))}
    assert found["pass_rate", "heldout"] == 0.75
    assert found["pass_rate_gain", "heldout"] == 0.5
    assert found["pass_rate_greedy_gain", "heldout"] == 0.5
    assert found["perplexity", "heldout"] == pytest.approx(math.exp(9 / 4))
    assert found["perplexity_ratio", "heldout"] == pytest.approx(math.exp(1 / 4))
    assert found["bits_per_byte", "heldout"] == pytest.approx(9 / math.log(2) / 16)


def test_perplexities_over_other_tokens_are_not_compared():
    text = {"nats": 2.0, "tokens": 2, "bytes": 8}
    after = {"problems": {"a": answered([1.0])}, "texts": {"x": text, "y": text}}
    before = after | {"texts": {"x": text | {"tokens": 3}, "y": text}}
    found = {m for m, _, _ in metrics(after, before, ScoreBackbone(resamples=100))}
    assert "perplexity_ratio" not in found
    assert "bits_per_byte" in found


def test_intervals_cover_the_truth_as_often_as_they_say():
    draw = np.random.default_rng(0)
    resample = Resampling(400, 0)
    hits = 0
    for _ in range(300):
        found = resample.mean(draw.normal(0.3, 1.0, 60).tolist())
        hits += found.low <= 0.3 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_paired_intervals_are_sharper_than_two_of_their_own():
    """Problems differ much more than the two models do on one problem."""
    draw = np.random.default_rng(1)
    hard = draw.uniform(0, 1, 200)
    gain = draw.normal(0.05, 0.02, 200)
    paired, alone = Resampling(500, 0).mean(gain.tolist()), Resampling(500, 0).mean(hard.tolist())
    assert paired.low > 0
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)


def test_perplexity_is_transformers_own_loss(base, corpora):
    model, tokenizer = load_backbone(base)
    text = "the sum of each axis returns an array"
    found = read_aloud(model.eval(), tokenizer, [Text("x", text)], ScoreBackbone())["x"]
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
    labels = ids.clone()
    labels[:, :2] = -100
    with torch.no_grad():
        loss = model(input_ids=ids, labels=labels).loss.item()
    assert found["nats"] / found["tokens"] == pytest.approx(loss, abs=1e-5)
    assert found["bytes"] == len(tokenizer.decode(load_tokenizer(base)(text)["input_ids"][1:]).encode())


def test_problems_are_chosen_evenly_and_alike():
    problems = [
        Problem(f"{t}{i}", "q", "1", "", t, 1) for t, n in (("often", 90), ("seldom", 10)) for i in range(n)
    ]
    chosen = chosen_problems(problems, ScoreBackbone(problem_count=20))
    assert sum(p.task == "seldom" for p in chosen) == 10
    assert chosen == chosen_problems(problems[::-1], ScoreBackbone(problem_count=20))
    assert chosen != chosen_problems(problems, ScoreBackbone(problem_count=20, seed=1))
