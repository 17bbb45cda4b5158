"""`realign power`: what a study could decide, said before it is run."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from realign.ranking.board import Board, read_board
from realign.study.benchmarks import benchmarks
from realign.study.load import parse_study
from realign.tools.power import ASSUMED, main, of_claims, planned, spread_between


def numbers(text: str, row: str) -> list[str]:
    """The cells of each line that begins with a name."""
    return [re.split(r"  +", line.strip())[1:] for line in text.splitlines() if line.startswith(row)]


def test_more_seeds_and_tasks_decide_less(capsys):
    found = []
    for words in (["--tasks", "12", "--seeds", "2"], ["--tasks", "12", "--seeds", "5"], ["--tasks", "48"]):
        main(words)
        cells = numbers(capsys.readouterr().out, words[1] + " tasks")[0]
        found.append([float(cell.removeprefix("± ")) for cell in cells[-2:]])
    (two, two_fixed), (five, five_fixed), (many, _) = found
    assert five < two
    assert five_fixed < two_fixed
    assert many < two


def test_what_is_needed_is_what_decides(capsys):
    """The number of tasks that it names decides the points, and one task fewer does not."""
    spread = ["--spread", "3", "0", "0.1", "0.2"]
    main(["--tasks", "12", *spread])
    needed = int(numbers(capsys.readouterr().out, "12 tasks")[1][1])
    decided = []
    for count in (needed, needed - 1):
        main(["--tasks", str(count), *spread])
        decided.append(float(numbers(capsys.readouterr().out, f"{count} tasks")[0][-2].removeprefix("± ")))
    assert decided[0] <= 1.0 + 0.005
    assert decided[1] > decided[0]


def test_a_study_says_how_often_its_claims_hold_without_any_gain(capsys):
    main(["studies/paper.yaml"])
    out = capsys.readouterr().out
    shown = out.split("\n\n")[2].splitlines()
    assert shown[0].split()[:3] == ["tasks", "types", "seeds"]
    manual = Path("docs/claims.md").read_text(encoding="utf-8")
    assert all(line in manual for line in shown)  # the manual shows this very table
    share = int(re.search(r"null_effect \(12 tests within ± 1\) holds in (\d+)%", out)[1])
    assert 80 <= share <= 100


def test_the_spread_is_read_from_results(tmp_path):
    random = np.random.default_rng(4)
    names = list(benchmarks()["MTEB(eng, v2)"])
    for model in ("a", "b"):
        (tmp_path / model).mkdir()
        for task in names:
            score = {"main_score": float(0.5 + 0.02 * random.standard_normal()), "hf_subset": "default"}
            told = {"task_name": task, "scores": {"test": [score]}}
            (tmp_path / model / f"{task}.json").write_text(json.dumps(told))
    spread, source = spread_between(read_board([tmp_path]))
    assert spread.task == pytest.approx(2.0 * np.sqrt(2), rel=0.35)
    assert "1 pair" in source
    assert "assumed" in source  # that of seeds, which no model has several of


def test_a_study_without_embedders_is_refused(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "give a study" in capsys.readouterr().err


def board(seeded: list[str]) -> Board:
    """Four models of like means; those named have three seeds."""
    random = np.random.default_rng(5)
    names, tasks = ["a", "b", "c", "d"], [f"t{i}" for i in range(20)]
    seeds = {
        name: pd.DataFrame(
            50 + random.standard_normal((3, 1)) + 0.5 * random.standard_normal((3, 20)), columns=tasks
        )
        for name in seeded
    }
    scores = pd.DataFrame(50 + 0.5 * random.standard_normal((4, 20)), index=names, columns=tasks)
    for name, own in seeds.items():
        scores.loc[name] = own.to_numpy().mean(0)
    scores = scores.sub(scores.mean(axis=1) - 50, axis=0)
    types = pd.Series("x", index=tasks)
    return Board(scores, types, types, seeds, {})


@pytest.mark.parametrize("seeded", [[], ["a"]])
def test_seeds_scatter_as_assumed_where_no_pair_of_models_has_several(seeded):
    spread, source = spread_between(board(seeded))
    assert (spread.seed, spread.rest) == (ASSUMED.seed, 0.0)
    assert "assumed" in source


def test_the_scatter_of_seeds_is_read_from_the_pairs_that_have_several():
    spread, source = spread_between(board(["a", "b"]))
    assert spread.rest > 0.3
    assert "seeds over 1 of them" in source


def test_one_seed_promises_nothing_where_seeds_scatter(capsys):
    main(["--tasks", "12", "--seeds", "1"])
    out = capsys.readouterr().out
    assert numbers(out, "12 tasks")[0][-2:] == ["nothing", "nothing"]
    assert "One seed does not show how far seeds scatter" in out


def test_claims_are_counted_for_pairs_that_the_recipe_trains_and_that_lie_on_no_series():
    study = {
        "study": {"name": "s"},
        "backbones": {name: {"hub": f"org/{name}"} for name in ("base", "tuned", "other")}
        | {
            "rl": {
                "rlvr": {"from": "base", "checkpoints": [10], "optimisation": {"steps": 20}},
                "embed": "all",
            }
        },
        "pairs": [{"left": "base", "right": name, "kind": "rlvr"} for name in ("tuned", "other", "rl")],
        "data": {"datasets": {"docs": {"embedded": "summary-description"}}},
        "mining": {"lexical": {}},
        "recipes": {"full": {"backbones": ["base", "tuned", "rl", "rl-step10"]}},
        "evaluation": {"benchmarks": ["BRIGHT"]},
    }
    checked = parse_study(study)
    assert any(pair.path for pair in checked.pairs)
    assert "null_effect (2 tests" in of_claims(checked, planned(checked, None), ASSUMED)


def test_without_any_spread_every_claim_of_equal_scores_holds(capsys):
    main(["studies/paper.yaml", "--spread", "0", "0", "0", "0"])
    assert "null_effect (12 tests within ± 1) holds in 100%" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["--tasks", "-3"], ["--tasks", "0"], ["--alpha", "0"], ["--alpha", "0.9"], ["--seeds", "0"],
     ["--points", "0"], ["--spread", "1", "1", "-1", "1"]],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        main(["--tasks", "12", *words])
    assert f"{words[0]}: give" in capsys.readouterr().err
