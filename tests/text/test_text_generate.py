import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from realign.artifacts.command import UserError
from realign.study.text import ProblemsJob, Text, problems_job
from realign.text.generate import PROBE, make_splits, quotas, solved
from realign.text.kinds import KINDS
from realign.text.problems import answer_of, number_in, read_problems, score

ALL = {
    "tasks": dict.fromkeys(KINDS, 1.0),
    "probe_tasks": dict.fromkeys(KINDS, 1.0),
    "levels": [1, 2, 3],
    "pretrain": 240,
    "train": 120,
    "heldout": 60,
}
SETTINGS = ProblemsJob.model_validate({"problems": ALL, "probe": 80})


@pytest.fixture(scope="module")
def splits():
    return make_splits(SETTINGS)


@pytest.fixture(scope="module")
def problems(splits):
    return {name: list(solved(made, name, SETTINGS)) for name, made in splits.items()}


def worked_out(task: str, question: str) -> int | None:
    """The answer computed from the question's words alone, where that is possible."""
    numbers = [int(n) for n in re.findall(r"\d+", question)]
    if task in ("sum", "difference", "chain_sum"):
        return eval(re.fullmatch(r"What is ([-+ 0-9]+)\?", question)[1])
    if task == "products":
        return numbers[0] * numbers[1]
    return {"gcd": math.gcd, "lcm": math.lcm}[task](*numbers) if task in ("gcd", "lcm") else None


def test_every_answer_is_right(problems):
    checked = Counter()
    for rows in problems.values():
        for row in rows:
            expected = worked_out(row.task, row.question)
            if expected is not None:
                assert int(row.answer) == expected, row
                checked[row.task] += 1
    assert set(checked) == {"sum", "difference", "chain_sum", "products", "gcd", "lcm"}


def test_every_kind_is_in_every_split(problems):
    for rows in problems.values():
        assert {row.task for row in rows} == set(KINDS)


def test_traces_end_in_their_answer_and_are_right_outside_pretraining(problems):
    for split, rows in problems.items():
        for row in rows:
            assert row.trace.splitlines()[-1] == f"Answer: {answer_of(row.trace)}"
            assert len(row.trace.splitlines()) >= 2
            if split != "pretrain":
                assert score(row.trace, row.answer) == 1.0, row


def test_the_stated_share_of_pretraining_solutions_is_wrong_and_wrong_in_a_step(problems):
    rows = problems["pretrain"]
    wrong = [row for row in rows if not score(row.trace, row.answer)]
    share = SETTINGS.problems.wrong_share
    assert abs(len(wrong) / len(rows) - share) < 4 * math.sqrt(share * (1 - share) / len(rows))
    equations = re.compile(r"^(-?\d[-+*\d]*)=(-?\d+)$")
    for row in rows:
        if row.task not in ("sum", "difference", "chain_sum", "products"):
            continue
        steps = [equations.match(line) for line in row.trace.splitlines()[:-1]]
        slips = sum(eval(step[1]) != int(step[2]) for step in steps if step)
        assert slips == (0 if score(row.trace, row.answer) else 1), row


def test_pretraining_has_several_solutions_of_each_problem(problems):
    assert len(problems["pretrain"]) == SETTINGS.problems.pretrain * SETTINGS.problems.solutions
    assert len(problems["train"]) == SETTINGS.problems.train
    assert len(problems["heldout"]) == SETTINGS.problems.heldout


def same_problem(task: str, question: str) -> tuple:
    """What a question is up to the order of its operands, read off its words."""
    if task == "leg_counting":
        return task, tuple(sorted(re.findall(r"(\d+) ([a-z ]+?)(?:,| have)", question)))
    words = re.findall(r"[-+]?\s?\d+", question)
    if task in ("sum", "products", "gcd", "lcm", "difference"):
        return task, tuple(sorted(re.findall(r"\d+", question)))
    return (task, question) if task == "word_problem" else (task, tuple(words))


def test_no_problem_is_in_two_splits_not_even_with_its_operands_exchanged(problems):
    where: dict[tuple, set[str]] = {}
    for split, rows in problems.items():
        for row in rows:
            where.setdefault(same_problem(row.task, row.question), set()).add(split)
    assert not {key: splits for key, splits in where.items() if len(splits) > 1}
    assert len(where) > 400


def test_splits_have_the_sizes_and_the_mix_that_was_asked_for(splits):
    wanted = quotas(SETTINGS)
    for split, made in splits.items():
        assert len(made) == sum(wanted[split].values())
    assert sum(wanted[PROBE].values()) == 80
    assert sum(wanted["train"].values()) == 120


def test_what_an_easy_level_lacks_the_next_gives():
    settings = ProblemsJob.model_validate(
        {
            "problems": {
                "tasks": {"sum": 1},
                "probe_tasks": {"sum": 1},
                "levels": [1, 2],
                "pretrain": 400,
                "train": 400,
            }
        }
    )
    splits = make_splits(settings)
    made = [m for rows in splits.values() for m in rows]
    levels = Counter(m.level for m in made)
    assert levels[1] == 55  # unordered pairs of digits
    assert len(made) == 400 + 400 + 300 + 400
    assert len({m.key for m in made}) == len(made)


def test_asking_for_more_problems_than_there_are_is_an_error():
    settings = ProblemsJob.model_validate({"problems": {"tasks": {"sum": 1}, "levels": [1], "pretrain": 100}})
    with pytest.raises(UserError, match=r"too few different problems of the kind 'sum'"):
        make_splits(settings)


def test_two_processes_make_the_same_bytes(tmp_path: Path, run_stage, fresh_python):
    settings = {"problems": {**ALL, "pretrain": 40, "train": 20, "heldout": 10}, "probe": 20, "seed": 3}
    out = run_stage("problems", settings)
    code = (
        "import sys; from realign.cli import main; d = sys.argv[1]; "
        "sys.exit(main(['problems', '--settings', sys.argv[2], '--store', d + '/s', "
        "*(x for n in ('pretrain', 'train', 'heldout', 'reasoning', 'stats') "
        "for x in ('--' + n, d + '/' + n))]))"
    )
    fresh_python(code, str(tmp_path), json.dumps(settings), PYTHONHASHSEED="7")
    for name in ("pretrain", "train", "heldout", "reasoning", "stats"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    assert len(list(read_problems(out / "train"))) == 20
    stats = json.loads((out / "stats").read_text())
    assert stats["train"]["right_share"] == 1.0
    other = run_stage("problems", {**settings, "seed": 4})
    assert (other / "train").read_bytes() != (out / "train").read_bytes()
    probes = [json.loads(line) for line in (out / "reasoning").open()]
    assert all(
        set(row) >= {"id", "text", "label"} and number_in(answer_of(row["text"])) is not None
        for row in probes
    )


def test_the_pool_of_probe_texts_is_twice_what_a_corpus_wants():
    small, large = (
        Text.model_validate({"probes": {"r": {"embedded": "reasoning", "limit": limit}}})
        for limit in (100, 500)
    )
    assert problems_job(small, 0).probe == problems_job(Text(), 0).probe == 400
    assert problems_job(large, 0).probe == 1000
