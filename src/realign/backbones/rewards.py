"""What an answer earns. Every part is decided by a rule that reads the text, never by a model."""

from realign.study.backbones import Rewards
from realign.text.problems import has_format, score


def reward(completion: str, answer: str, ended: bool, settings: Rewards) -> float:
    """The reward of one completion of a problem whose right answer is known.

    A completion that was cut off may hold the right answer by luck of the cut, so `truncated` can be
    taken off; it is never below zero for that.
    """
    earned = settings.correct * score(completion, answer)
    earned += settings.format * float(has_format(completion))
    return earned if ended else max(0.0, earned - settings.truncated)
