"""Every family's measures; a new family's file of declarations is listed here."""

from realign.measures import linear, neighbours, probe, extra, weights, survival, behaviour  # noqa: F401, I001 (in the order of tables)
from realign.measures.registry import DECLARED as MEASURES


def claimable() -> list[str]:
    """The measures whose number has an interval and compares two models: a claim can be tested on them."""
    return [m.name for m in MEASURES.values() if m.main.has_interval and m.level != "description"]
