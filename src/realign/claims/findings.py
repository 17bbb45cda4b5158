"""One test of one pair: the finding, and the results that findings are read from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from realign.results.gains import Gain, gains
from realign.results.statistics import Estimate
from realign.results.tidy import Tidy, counterparts, of_preset, task_scores, without_sinks
from realign.results.verdicts import UNDECIDED
from realign.study.claims import ClaimTest
from realign.study.description import PairEntry
from realign.study.drawing import JudgeClaims


@dataclass
class Finding:
    """One test of one pair: what was estimated, from which files, and how it was judged."""

    pair: str
    what: str
    test: ClaimTest
    estimate: Estimate
    threshold: float
    files: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    p_holds: float = 1.0
    p_fails: float = 1.0
    p_fails_holm: float = 1.0
    verdict: str = UNDECIDED


@dataclass(frozen=True)
class Evidence:
    """The question and the tidy results that answer it, in the preset that claims read."""

    asked: JudgeClaims
    tidy: Tidy

    @cached_property
    def measures(self) -> pd.DataFrame:
        """Measures of whole models, or of a layer and its own counterpart.

        In our own preset attention sinks are left out: what models share in a few of them is no geometry.
        """
        preset = self.asked.view.preset
        rows = self.tidy.measures
        rows = pd.concat([rows[rows["layer_left"].isna()], counterparts(rows)]).sort_index()
        return of_preset(rows, preset).assign(with_sinks=np.nan) if preset else without_sinks(rows)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One score per embedder and task, in points of 100."""
        return task_scores(self.tidy.scores, self.asked.view.preset)

    @cached_property
    def gains(self) -> dict[str, list[Gain]]:
        """What the scores say of each pair, benchmark by benchmark."""
        return {pair.name: gains(self.scores, pair, self.asked.view.recipe) for pair in self.asked.pairs}

    def random_weights(self, pair: PairEntry) -> list[str]:
        """The models of a pair's base shape with random weights, which the study holds beside the base."""
        controls = (p for p in self.asked.pairs if p.kind in self.asked.controls and p.left == pair.left)
        return [p.right for p in controls if p.right in self.asked.untrained]

    @property
    def main_corpus(self) -> str:
        """The corpus that levels are read on."""
        return next(iter(self.asked.view.corpora), "")

    def pairs(self, test: ClaimTest) -> Iterator[PairEntry]:
        """The pairs that a test selects."""
        kinds = {p.kind for p in self.asked.pairs} - set(self.asked.controls)
        for pair in self.asked.pairs:
            of_kind = pair.kind in (kinds if test.kind == "any" else (test.kind,))
            tagged = set(test.tagged) <= set(pair.tags) and not set(test.untagged) & set(pair.tags)
            if of_kind and tagged and (pair.embed or not on_embedders(test)):
                yield pair


def on_embedders(test: ClaimTest) -> bool:
    """Whether a test reads embedders, which not every pair has."""
    return test.stage == "embedder" or test.statistic in ("gain", "lift", "change", "progress")
