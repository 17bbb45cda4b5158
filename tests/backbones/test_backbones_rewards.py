"""Rewards of answers that try to look right."""

import pytest

from realign.backbones.rewards import reward
from realign.study.backbones import Rewards

PLAIN = Rewards(correct=1.0)


@pytest.mark.parametrize(
    ("completion", "answer", "earned"),
    [
        ("3+4=7\nAnswer: 7", "7", 1.0),
        ("Answer: 7.", "7", 1.0),
        ("Answer: 7.0", "7", 1.0),
        ("Answer: -7", "7", 0.0),
        ("Answer: -7", "-7", 1.0),
        ("Answer: − 7", "-7", 1.0),  # a typographic minus
        ("Answer: 1/2", "0.5", 1.0),
        ("Answer: 2/4", "1/2", 1.0),
        ("Answer: 0.33", "1/3", 0.0),
        ("Answer: 1/0", "0", 0.0),
        ("Answer: 1,234", "1234", 1.0),
        ("Answer: 12,34", "1234", 0.0),
        ("Answer: 7 apples", "7", 1.0),
        ("Answer: $7", "7", 1.0),
        ("Answer: 7 km/h", "7", 1.0),
        ("Answer: 7 8", "7", 0.0),  # two numbers are no answer
        ("Answer: 7 or 8", "7", 0.0),
        ("Answer: 1 2 3 4 5 6 7 8 9", "7", 0.0),
        ("Answer: 7 or eight", "7", 0.0),
        ("Answer: 7 Plus one", "7", 0.0),
        ("Answer: 7 million", "7", 0.0),
        ("Answer: 7 thousand dollars", "7", 0.0),
        ("Answer: 7 ounces", "7", 1.0),
        ("Answer: 7 tons", "7", 1.0),
        ("Answer: 77", "7", 0.0),
        ("Answer: 6\nAnswer: 7", "7", 1.0),  # the last one stands
        ("Answer: 7\nAnswer: 6", "7", 0.0),
        ("7", "7", 0.0),  # a number that is not given as the answer
        ("The answer is 7", "7", 0.0),
        ("Answer:", "7", 0.0),
        ("", "7", 0.0),
        ("Answer: seven", "7", 0.0),
        ("Answer: 7e0", "7", 0.0),
        ("Answer: 0x7", "7", 0.0),
        ("Answer: nan", "7", 0.0),
        ("Answer: inf", "7", 0.0),
    ],
)
def test_only_the_right_number_given_as_the_answer_earns(completion, answer, earned):
    assert reward(completion, answer, True, PLAIN) == earned


def test_form_earns_by_itself_and_only_once():
    settings = Rewards(correct=1.0, format=0.25)
    assert reward("Answer: 8", "7", True, settings) == 0.25
    assert reward("Answer: 7", "7", True, settings) == 1.25
    assert reward("Answer: 8\nAnswer: 7", "7", True, settings) == 1.0  # right, but two answers
    assert reward("eight", "7", True, settings) == 0.0


def test_an_answer_that_does_not_end_loses_and_never_falls_below_nothing():
    settings = Rewards(correct=1.0, truncated=0.5)
    assert reward("Answer: 7", "7", False, settings) == 0.5
    assert reward("Answer: 8", "7", False, settings) == 0.0
    assert reward("Answer: 7", "7", True, settings) == 1.0
