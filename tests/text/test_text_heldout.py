"""Held-out rows as a retrieval task, and problems from elsewhere: dealt so that nothing is on both sides."""

import json

import pytest

from realign.artifacts.command import UserError
from realign.study.errors import StudyError
from realign.study.load import parse_study
from realign.text.problems import read_problems, score


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_held_out_is_asked_and_never_trained_on(write_lines, run_stage):
    """Passages that several questions share, and rows with several passages, included."""
    table = [{"question": f"is it {i}?", "passage": f"Passage {i // 2}."} for i in range(200)]
    source = write_lines("boolq.jsonl", *table)
    dataset = {
        "file": str(source), "columns": {"query": "question", "positive": "passage"},
        "instruction": "Find the passage", "held_out": 0.3,
    }  # fmt: skip
    made = run_stage("pairs", {"dataset": dataset}, source=source)
    task = run_stage("heldout_task", {"dataset": dataset}, source=source) / "task"
    trained = {passage for row in rows_of(made / "pairs") for passage in row["pos"]}
    corpus = {row["id"]: row["text"] for row in rows_of(task / "corpus.jsonl")}
    queries = {row["id"]: row["text"] for row in rows_of(task / "queries.jsonl")}
    assert not trained & set(corpus.values())
    assert trained | set(corpus.values()) == {row["passage"] for row in table}
    assert 15 <= len(corpus) <= 45
    answers = {queries[row["query"]]: corpus[row["doc"]] for row in rows_of(task / "qrels.jsonl")}
    wanted = {row["question"]: row["passage"] for row in table}
    assert answers == {question: wanted[question] for question in answers}
    assert len(answers) == 2 * len(corpus)


def test_a_passage_is_on_one_side_only_even_among_others(write_lines, run_stage):
    rows = [
        {"query": f"q{i}", "pos": [f"p{i}", f"p{(i * 7 + 3) % 100}"], "neg": [f"p{(i + 1) % 100}"]}
        for i in range(100)
    ]
    source = write_lines("many.jsonl", *rows)
    dataset = {"file": str(source), "held_out": 0.4}
    made = run_stage("pairs", {"dataset": dataset}, source=source)
    task = run_stage("heldout_task", {"dataset": dataset}, source=source) / "task"
    trained = {p for row in rows_of(made / "pairs") for p in row["pos"] + row["neg"]}
    assert trained
    assert not trained & {row["text"] for row in rows_of(task / "corpus.jsonl")}


def test_too_little_held_out_is_said(write_lines, run_stage):
    source = write_lines("few.jsonl", *({"query": f"q{i}", "pos": [f"p{i}"]} for i in range(3)))
    with pytest.raises(UserError, match=r"0 passages are held out at held_out: 1e-06; raise it"):
        run_stage("heldout_task", {"dataset": {"file": str(source), "held_out": 1e-6}}, source=source)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"type": "retrieval", "dataset": "own"}, "nothing of 'own' is held out"),
        ({"type": "retrieval", "dataset": "owl"}, "no dataset 'owl' (did you mean 'own'?)"),
        ({"type": "sts", "dataset": "own"}, "make a retrieval task and no other"),
        ({"type": "retrieval", "dataset": "own", "path": "x"}, "exactly one of embedded, dataset and path"),
    ],
)
def test_a_task_that_cannot_be_made_is_refused(task, words):
    content = {
        "study": {"name": "s"}, "backbones": {}, "data": {"datasets": {"own": {"file": "own.jsonl"}}},
        "evaluation": {"tasks": {"T": task}},
    }  # fmt: skip
    with pytest.raises(StudyError) as error:
        parse_study(content)
    assert words in str(error.value)


WORKED = "She sells 16 - 3 = <<16-3=13>>13 eggs.\nAt $2 each that is $<<13*2=26>>26.\n#### 26"


def test_problems_from_elsewhere_are_dealt_to_train_and_heldout(write_lines, run_stage):
    table = [{"question": f"How many are {i} eggs?", "answer": WORKED} for i in range(100)]
    table += [{"question": "Is it?", "answer": "yes"}, {"question": "Half of 1?", "answer": "#### 1/2"}]
    source = write_lines("gsm8k.jsonl", *table)
    problems = {
        "pretrain": 10, "train": 10, "heldout": 10, "further": {"gsm8k": {"file": str(source)}},
    }  # fmt: skip
    made = run_stage("problems", {"problems": problems, "probe": 10}, further=[source])
    train, heldout = (
        [p for p in read_problems(made / split) if p.task == "gsm8k"] for split in ("train", "heldout")
    )
    assert not {p.question for p in train} & {p.question for p in heldout}
    assert len(train) + len(heldout) == 101  # all but the one whose answer is no number
    assert 8 <= len(heldout) <= 35
    eggs = next(p for p in train if "eggs" in p.question)
    assert eggs.trace == "She sells 16 - 3 = 13 eggs.\nAt $2 each that is $26.\nAnswer: 26"
    assert all(score(p.trace, p.answer) for p in train + heldout)
    assert not [p for p in read_problems(made / "pretrain") if p.task == "gsm8k"]
