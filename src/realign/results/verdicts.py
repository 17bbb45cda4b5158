"""How verdicts stand in the table of claims, and how a rule is worded."""

from collections.abc import Iterable, Mapping
from typing import Any

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


def reach_text(rule: str, facts: Mapping[str, Any], spec: str = ".3f") -> str:
    """What a test that decided nothing could have decided, in words; nothing where that is not known."""
    holds, fails, margin = (facts.get(key) for key in ("holds_from", "fails_from", "least_margin"))
    if rule == "equivalent" and margin is not None:
        found = f"finds differences from ± {fails:{spec}}"
        return f"this design confirms margins from ± {margin:{spec}} and {found}"
    if rule == "different" and holds is not None:
        return f"this design finds differences from ± {holds:{spec}}"
    above, below = (holds, fails) if rule.startswith("above") else (fails, holds)
    ends = [f"from {end:{spec}} {way}" for end, way in ((above, "up"), (below, "down")) if end is not None]
    return f"this design decides {' and '.join(ends)}" if ends else ""


def overall(verdicts: Iterable[str]) -> str:
    """A claim's verdict: all tests hold, one fails, or neither."""
    given = set(verdicts)
    if FAILS in given:
        return FAILS
    return HOLDS if given == {HOLDS} else UNDECIDED
