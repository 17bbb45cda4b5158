from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realign.text.problems import answer_of, has_format, number_in, parse_problem, read_problems, score
from realign.text.streams import LineError


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("7+8=15\n4+3+1=8\nAnswer: 85", "85", 1),
        ("Answer: 85.", "85", 1),
        ("Answer:85", "85", 1),
        ("  Answer:  85  \nand more talk 12", "85", 1),
        ("85", "85", 0),  # no answer line
        ("", "85", 0),
        ("Answer:", "85", 0),
        ("Answer: 85 86", "85", 0),  # several numbers
        ("Answer: 85 or 86", "85", 0),
        ("Answer: 84, 85", "85", 0),
        ("Answer: between 80 and 90", "85", 0),
        ("Answer: not 85", "85", 0),
        ("The Answer: 85", "85", 0),  # the mark opens a line
        ("Answer: 84\nAnswer: 85", "85", 1),  # the last one counts
        ("Answer: 85\nAnswer: 84", "85", 0),
        ("Answer: 85\nAnswer: I do not know", "85", 0),
        ("Answer: 85 km", "85", 1),  # units
        ("Answer: $1,250", "1250", 1),
        ("Answer: 1,25", "125", 0),  # no thousands separator
        ("Answer: 12,50,000", "1250000", 0),
        ("Answer: 60 %", "60", 1),
        ("Answer: -5", "-5", 1),
        ("Answer: −5", "-5", 1),
        ("Answer: 5", "-5", 0),
        ("Answer: - 5", "-5", 1),
        ("Answer: --5", "5", 0),
        ("Answer: 1/2", "0.5", 1),
        ("Answer: 0.50", "1/2", 1),
        ("Answer: .5", "1/2", 1),
        ("Answer: 0.33", "1/3", 0),
        ("Answer: 1/0", "1", 0),
        ("Answer: 85.0", "85", 1),
        ("Answer: 085", "85", 1),
        ("Answer: 8.5e1", "85", 0),
        ("Answer: 85+0", "85", 0),
        ("Answer: ８５", "85", 0),
        ("answer: 85", "85", 0),
        ("Answer: 8 5", "85", 0),
        ("Answer: nan", "85", 0),
        ("Answer: " + "9" * 5000, "85", 0),
    ],
)
def test_scores_of_honest_and_of_sly_answers(completion, answer, right):
    assert score(completion, answer) == right


@given(st.fractions(max_denominator=10_000))
def test_a_fraction_equals_itself_however_it_is_written(value: Fraction):
    assert number_in(str(value)) == value
    assert score(f"Answer: {value.numerator * 3}/{value.denominator * 3}", str(value)) == 1


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_decimals_are_compared_exactly(value):
    text = f"{value:f}"
    assert number_in(text) == Fraction(text)
    assert score(f"Answer: {text}", str(Fraction(text) + Fraction(1, 10**9))) == 0


@given(st.text())
def test_any_completion_gets_a_score_and_no_error(completion):
    assert score(completion, "85") in (0.0, 1.0)
    assert score("Answer: " + completion, "85") in (0.0, 1.0)
    assert has_format(completion) in (True, False)


def test_the_format_is_one_answer_that_is_one_number():
    assert has_format("steps\nAnswer: 3")
    assert not has_format("Answer: 3\nAnswer: 3")
    assert not has_format("Answer: three")
    assert not has_format("3")
    assert answer_of("Answer: a\nAnswer: b ") == "b"
    assert answer_of("none") is None


GOOD = {"id": "a", "question": "q", "answer": "1", "trace": "Answer: 1", "task": "sum", "difficulty": 1}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"answer": "many"}, "'answer' is no number"),
        ({"question": ""}, "'question'"),
        ({"difficulty": "x"}, "diff"),
    ],
)
def test_a_faulty_problem_names_its_line(write_lines, change, word):
    path = write_lines("problems.jsonl", GOOD, {**GOOD, **change})
    with pytest.raises(LineError, match="line 2") as error:
        list(read_problems(path))
    assert word in str(error.value)
    assert parse_problem(GOOD).text == "q\nAnswer: 1"
