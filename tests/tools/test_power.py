"""`realign power`: what a study could decide, said before it is run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from realign.ranking.board import read_board
from realign.study.benchmarks import benchmarks
from realign.tools.power import main, spread_between


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
