"""The table of claims as people read it: the answer, its numbers, and a card for each claim."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from realign.report.grids import Cell, Grid
from realign.report.templates import plain, signed
from realign.results.verdicts import ALL, FAILS, HOLDS, UNDECIDED, reach_text, rule_text

SIGNS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
NULL = "null_effect"  # the claim that answers the paper's question
ANSWERS = {
    HOLDS: "Benchmark scores are equivalent: each gain lies within the margin of ± {0:g}.",
    FAILS: "Benchmark scores differ by more than the margin of ± {0:g}",
    UNDECIDED: "Whether benchmark scores differ is undecided: intervals reach beyond the margin of ± {0:g}.",
}
GAIN = re.compile(r"gain, (.*?)(?: \((?:other tasks|these tasks).*\))?")
LEVEL = re.compile(r"(.*, (?:backbones|embedders))(?:, \w+)?")
READOUTS = {
    "probe accuracy, right minus left, probe of the left": "Probe accuracy, post-trained minus base, probe "
    "of the base",
    "probe accuracy, left minus right, probe of the right": "Probe accuracy, base minus post-trained, probe "
    "of the post-trained",
}
SINKS_MATTER = 0.05
HEADS = ("Pair", "Statistic", "Value", "Interval", "Rule", "p, holds", "p, fails", "Verdict", "Evidence")
TOLD_ELSEWHERE = {
    "rule", "p", "p_opposite", "p_opposite_holm", "interval_level", "files",
    "holds_from", "fails_from", "least_margin",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A claim, its verdict, and its tests (rows of the table of claims)."""

    name: str
    says: str
    verdict: str
    tests: Sequence[Any]

    @property
    def sign(self) -> str:
        """The verdict for those who see no colours."""
        return SIGNS[self.verdict]

    @property
    def tested(self) -> bool:
        """Whether the results hold anything to test it on."""
        return any(t.value == t.value or json.loads(t.evidence).get("files") for t in self.tests)

    @property
    def counts(self) -> str:
        """How its tests came out: `2 hold, 1 fails`."""
        return counted([t.verdict for t in self.tests])

    @property
    def gist(self) -> list[str]:
        """The numbers of up to three of its tests: value, interval, rule."""
        shown = [
            f"{_pair(t.pair)}: {_number(t)}, {rule_text(json.loads(t.evidence)['rule'], t.threshold)}"
            for t in self.tests[:3]
        ]
        return [*shown, f"{len(self.tests) - 3} more"] if len(self.tests) > 3 else shown

    @property
    def grid(self) -> Grid:
        """All of its tests."""
        return Grid(HEADS, [list(_cells(t)) for t in self.tests])


def cards(claims: pd.DataFrame) -> list[Card]:
    """A card for each claim."""
    found = []
    for name, rows in claims.groupby("claim", sort=False):
        whole = rows[rows["pair"] == ALL].iloc[0]
        tests = list(rows[rows["pair"] != ALL].itertuples())
        found.append(Card(str(name), json.loads(whole["evidence"])["says"], whole["verdict"], tests))
    return found


def answer(tested: Sequence[Card]) -> str:
    """The answer to the paper's question, if the study asks it, and the count of verdicts."""
    if not tested:
        return "No claim of this study could be tested."
    told = ""
    for card in (c for c in tested if c.name == NULL):
        told = ANSWERS[card.verdict].format(card.tests[0].threshold)
        if card.verdict == UNDECIDED:
            told += _reach(card.tests)
        if card.verdict == FAILS:
            told += ": " + "; ".join(_beyond(t) for t in card.tests if t.verdict == FAILS) + "."
    claims = "1 claim" if len(tested) == 1 else f"{len(tested)} claims"
    return f"{told} Of {claims}: {counted([c.verdict for c in tested])}.".strip()


def _reach(tests: Sequence[Any]) -> str:
    """The least margin and gain that could have been decided on every undecided benchmark."""
    facts = [json.loads(t.evidence) for t in tests if t.verdict == UNDECIDED]
    known = [f for f in facts if f.get("least_margin") is not None]
    if not known:
        return ""
    margin, gain = (max(f[key] for f in known) for key in ("least_margin", "fails_from"))
    return (
        f" This design confirms equivalence within a margin of ± {margin:.2f} if there is no gain, "
        f"and finds gains from ± {gain:.2f}."
    )


def counted(verdicts: Sequence[str]) -> str:
    """`2 hold, 1 fails, 3 undecided`."""
    found = Counter(verdicts)
    words = {HOLDS: ("holds", "hold"), FAILS: ("fails", "fail"), UNDECIDED: ("undecided", "undecided")}
    return ", ".join(f"{found[v]} {words[v][found[v] > 1]}" for v in words if found[v])


def numbers(tested: Sequence[Card]) -> Grid | None:
    """The gains and the levels of similarity that the claims rest on: a row a quantity, a column a pair."""
    found: dict[str, dict[str, Cell]] = {}
    for test in (t for card in tested for t in card.tests):
        quantity = _quantity(test)
        if quantity and test.value == test.value:
            found.setdefault(quantity, {}).setdefault(test.pair, Cell(_number(test), test.value))
    pairs = list(dict.fromkeys(pair for row in found.values() for pair in row))
    order = sorted(found, key=lambda quantity: not quantity.startswith("Gain"))
    rows = [[Cell(name), *(found[name].get(pair, Cell("–")) for pair in pairs)] for name in order]
    return Grid(["", *map(_pair, pairs)], rows) if rows else None


def sink_warnings(tested: Sequence[Card]) -> list[str]:
    """A sentence for each similarity that a few attention sinks change by more than a twentieth."""
    found = {}
    for test in (t for card in tested for t in card.tests):
        evidence = json.loads(test.evidence)
        if abs(evidence.get("sinks_add", 0.0)) > SINKS_MATTER and not evidence["rule"].endswith("_floor"):
            found[test.pair, test.statistic] = (
                f"{_pair(test.pair)}, {test.statistic}: {test.value:.2f} without attention sinks, "
                f"{evidence['with_sinks']:.2f} with them. Verdicts use the value without."
            )
    return list(found.values())


def gain_warnings(tested: Sequence[Card]) -> list[str]:
    """A sentence for each gain that random weights would not lack, or that one task decides."""
    found = {}
    for test in (t for card in tested for t in card.tests if GAIN.fullmatch(t.statistic)):
        evidence = json.loads(test.evidence)
        about, scores = (test.pair, test.statistic), evidence.get("mean_scores")
        floor, without = evidence.get("score_of_random_weights"), evidence.get("gain_without_it")
        if scores and floor is not None and max(scores) <= floor:
            found[about, "floor"] = (
                f"{_pair(test.pair)}, {test.statistic}: both sides score no higher than random weights "
                f"({scores[0]:.1f} and {scores[1]:.1f}, {floor:.1f}), so the gain says nothing."
            )
        if (
            without is not None
            and abs(without) <= test.threshold < abs(test.value)
            and test.verdict != UNDECIDED
        ):
            found[about, "one task"] = (
                f"{_pair(test.pair)}, {test.statistic}: {_number(test)} rests on one task. Without "
                f"{evidence['task_that_moves_it_most']} the gain is {signed(without, '+.2f')}."
            )
    return list(found.values())


def _quantity(test: Any) -> str:
    """What a test measured, without its attention mode; nothing for shares, differences and floors."""
    if gain := GAIN.fullmatch(test.statistic):
        return f"Gain on {gain[1]}, points"
    level = LEVEL.fullmatch(test.statistic)
    if not level or json.loads(test.evidence)["rule"].endswith("_floor"):
        return ""
    words = level[1]
    for way, plainly in READOUTS.items():
        words = words.replace(way, plainly)
    return words


def _number(test: Any) -> str:
    """A value with its interval; gains in points have a sign and two digits."""
    spec = "+.2f" if GAIN.fullmatch(test.statistic) else "+.3f" if " minus " in test.statistic else ".3f"
    value = signed(test.value, spec)
    if test.ci_low != test.ci_low:
        return value
    return f"{value} [{signed(test.ci_low, spec)}, {signed(test.ci_high, spec)}]"


def _beyond(test: Any) -> str:
    """A gain beyond the margin in words: which way, where, how much."""
    way, benchmark = "higher" if test.value > 0 else "lower", GAIN.fullmatch(test.statistic)
    place = f" on {benchmark[1]}" if benchmark else ""
    return f"{way} for {_pair(test.pair)}{place}, {_number(test)}"


def _pair(name: str) -> str:
    return name.replace("--vs--", " vs ")


def _cells(test: Any) -> Iterator[Cell]:
    evidence = json.loads(test.evidence)
    interval = f"{signed(test.ci_low, '.3f')} to {signed(test.ci_high, '.3f')}"
    yield Cell(_pair(test.pair))
    yield Cell(test.statistic)
    yield Cell(signed(test.value, ".3f"), test.value)
    yield Cell(interval if test.ci_low == test.ci_low else "", test.ci_low)
    yield Cell(rule_text(evidence["rule"], test.threshold))
    for p in (evidence["p"], evidence["p_opposite_holm"]):
        yield Cell(f"{p:.3f}" if p >= 0.0005 else "< 0.001", p)
    spec = ".2f" if GAIN.fullmatch(test.statistic) else ".3f"
    reach = reach_text(evidence["rule"], evidence, spec)
    yield Cell(f"{test.verdict}; {reach}" if reach else test.verdict)
    told = [f"{k.replace('_', ' ')}: {plain(v)}" for k, v in evidence.items() if k not in TOLD_ELSEWHERE]
    if files := evidence.get("files"):
        told.append(f"{len(files)} file{'s' if len(files) > 1 else ''}, the first {files[0]}")
    yield Cell("; ".join(told))
