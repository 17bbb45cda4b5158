"""Ranking: boards are read as they are, ties stay ties, and planted gaps are found."""

import json

import numpy as np
import pytest

from realign.artifacts.command import UserError
from realign.ranking.board import read_board
from realign.ranking.rank import main
from realign.ranking.separate import Design, compare_all, deviations, rank_intervals, ties

TYPES = ["a"] * 8 + ["b"] * 6 + ["c"] * 6
FAMILIES = [f"{t}{i // 2}" for i, t in enumerate(TYPES)]
DESIGN = Design.of(TYPES, FAMILIES)


def world(seed, models, tied, step=3.0):
    """Models in groups of `tied` with one true score; types differ, families and tasks scatter."""
    rng = np.random.default_rng(seed)
    of_type = DESIGN.type_of_family[DESIGN.family]
    by_type = rng.normal(size=(models, 3)) * 3
    by_type -= (by_type[:, of_type] @ DESIGN.weights)[:, None]
    families = rng.normal(size=(models, len(DESIGN.type_of_family)))
    scores = by_type[:, of_type] + families[:, DESIGN.family] + rng.normal(size=(models, len(TYPES)))
    truth = -step * (np.arange(models) // tied)
    return scores + truth[:, None], truth


def false_separations(models, tied, worlds=60):
    wrong = 0
    for seed in range(worlds):
        scores, truth = world(seed, models, tied)
        found = compare_all(scores, DESIGN, flips=299, seed=seed)
        wrong += (found.p[truth[found.first] <= truth[found.second]] < 0.05).any()
    return wrong / worlds


def test_ties_are_seldom_separated_anywhere_on_a_board():
    # 5 % wanted; three standard errors of 60 worlds are 8.4 %
    assert false_separations(models=8, tied=8) <= 0.134


def test_planted_gaps_are_found_and_ranks_hold_the_truth():
    scores, truth = world(1, models=6, tied=2, step=12.0)
    found = compare_all(scores, DESIGN, flips=999)
    true_gap = truth[found.first] > truth[found.second]
    assert (found.p[true_gap] < 0.05).all()
    ranks = rank_intervals(found, 6, 0.05)
    assert [tuple(r) for r in ranks] == [(1, 2), (1, 2), (3, 4), (3, 4), (5, 6), (5, 6)]
    order = np.argsort(-scores.mean(1))
    assert [sorted(group) for group in ties(found, list(order), 0.05)] == [[0, 1], [2, 3], [4, 5]]


def test_the_error_is_the_jackknife_over_families_of_one_size():
    scores, _ = world(2, models=2, tied=2)
    found = compare_all(scores, DESIGN, flips=9)
    gap = scores[found.first[0]] - scores[found.second[0]]
    variance = 0.0
    for h in range(3):
        own = np.array([DESIGN.type_of_family[f] == h for f in DESIGN.family])
        names = sorted(set(DESIGN.family[own]))
        without = np.array([gap[own & (DESIGN.family != f)].mean() for f in names])
        share = own.mean()
        variance += share**2 * (len(names) - 1) / len(names) * ((without - gap[own].mean()) ** 2).sum()
    assert found.error[0] == pytest.approx(np.sqrt(variance), rel=1e-12)


def test_deviations_of_a_type_sum_to_zero_where_families_are_of_one_size():
    scores, _ = world(3, models=4, tied=4)
    parts = deviations(scores, DESIGN)
    for h in range(3):
        assert np.allclose(parts[:, DESIGN.type_of_family == h].sum(1), 0)


def test_equal_models_are_tied():
    scores, _ = world(4, models=1, tied=1)
    found = compare_all(np.repeat(scores, 2, axis=0), DESIGN, flips=99)
    assert found.value[0] == 0
    assert found.p[0] == 1


def write(folder, model, task, value, subset="default", split="test"):
    place = folder / model / "0123456789abcdef"
    place.mkdir(parents=True, exist_ok=True)
    scores = {split: [{"main_score": value, "hf_subset": subset}, {"main_score": 0.0, "hf_subset": "de"}]}
    (place / f"{task}.json").write_text(json.dumps({"task_name": task, "scores": scores}))


TASKS = ("STS12", "STS13", "SICK-R", "BIOSSES", "ArguAna", "SCIDOCS", "FiQA2018")


def test_a_results_repository_is_read_with_the_benchmarks_subsets(tmp_path, capsys):
    for number, model in enumerate(("org__good", "org__bad", "org__short")):
        for task in TASKS[: 7 - (number == 2)]:
            write(tmp_path, model, task, 0.8 - 0.1 * number)
            (tmp_path / model / "0123456789abcdef/model_meta.json").write_text('{"name": "x"}')
    board = read_board([tmp_path], chosen=TASKS)
    assert list(board.scores.index) == ["org/bad", "org/good"]
    assert board.scores.loc["org/good", "STS12"] == pytest.approx(40)  # all subsets, none being named
    assert board.left_out == {"org/short": ["FiQA2018"]}
    assert board.families["STS12"] == board.families["STS13"] != board.families["SICK-R"]
    assert main([str(tmp_path), "--tasks", *TASKS, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.index("org/good") < printed.index("org/bad")
    assert "Left out, since they lack tasks: 1 models, such as org/short (FiQA2018)." in printed
    assert (tmp_path / "out/ranks.csv").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["."], "no benchmark scores found"),
        ([".", "--benchmark", "MTEB(eng, v3)"], "no benchmark 'MTEB(eng, v3)'"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        main(words)
    assert message in str(error.value)


def test_one_family_alone_is_refused():
    with pytest.raises(UserError, match="one family of tasks"):
        compare_all(np.random.default_rng(0).normal(size=(3, 2)), Design.of(["a", "a"], ["f", "f"]))
