"""How verdicts stand in the table of claims, and how a rule is worded."""

from collections.abc import Iterable

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
ALL = "all"  # the row of a whole claim, where others name a pair

RULES = {
    "equivalent": "within ± {0:g}",
    "different": "other than {0:g}",
    "above": "above {0:g}",
    "below": "below {0:g}",
    "above_floor": "above its floor + {0:g}",
    "below_floor": "below its floor + {0:g}",
}


def rule_text(rule: str, threshold: float) -> str:
    """A rule in words."""
    return RULES[rule].format(threshold)


def overall(verdicts: Iterable[str]) -> str:
    """A claim's verdict: all tests hold, one fails, or neither."""
    given = set(verdicts)
    if FAILS in given:
        return FAILS
    return HOLDS if given == {HOLDS} else UNDECIDED
