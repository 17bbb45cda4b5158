"""What a study is made of, as its tidy results say it (`tidy/study.json`).

Figures, tables, claims and the report are planned from this description and from nothing else, so
an archive of tidy results can be drawn again without the study file or the models.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from realign.study.base import Section, setting
from realign.study.claims import Claims
from realign.study.figures import Figures

Stage = Literal["", "backbone", "embedder", "checkpoint"]


class PairEntry(Section):
    """A pair of backbones as figures need it."""

    name: str = setting(..., "The pair's name, left--vs--right.")
    left: str = setting(..., "The base backbone.")
    right: str = setting(..., "The post-trained backbone.")
    kind: Literal["sft", "rlvr", "control"] = setting(..., "What lies between the two.")
    tags: tuple[str, ...] = setting((), "Its free words.")
    embed: bool = setting(True, "Whether embedders of both sides are compared.")


class Part(Section):
    """One file of tidy results and what it is about."""

    table: Literal["measures", "scores", "backbones", "training", "mining"] = setting(..., "Its kind.")
    path: str = setting(..., "Where it lies, below the folder of tidy results.")
    stage: Stage = setting("", "For measures: whose states are compared.")
    pair: str = setting("", "For measures: the pair, or the name of the control.")
    kind: str = setting("", "For measures: sft, rlvr or control.")
    recipe: str = setting("", "The training recipe, where there is one.")
    corpus: str = setting("", "For measures: the probe corpus.")
    attention: str = setting("", "For measures: the attention mode.")
    family: str = setting("", "For measures: linear, neighbours, probe or extra.")
    model: str = setting("", "The backbone, embedder or dataset it is about.")


class Description(Section):
    """A study's parts, their labels, and how its results are to be drawn and judged."""

    name: str = setting(..., "The study's name.")
    title: str = setting("", "Its title.")
    question: str = setting("", "Its question.")
    synthetic: bool = setting(False, "Whether the results were made up to try the drawings.")
    seeds: tuple[int, ...] = setting((), "Seeds of the contrastive trainings.")
    backbones: dict[str, dict[str, Any]] = setting({}, "The backbones and what is known of each.")
    pairs: tuple[PairEntry, ...] = setting((), "The pairs, in the study's order.")
    recipes: dict[str, dict[str, Any]] = setting({}, "The training recipes and their settings.")
    corpora: dict[str, dict[str, Any]] = setting({}, "The probe corpora and what is known of each.")
    datasets: dict[str, dict[str, Any]] = setting({}, "The training data sets.")
    benchmarks: dict[str, list[str]] = setting({}, "The benchmarks and their tasks.")
    parts: tuple[Part, ...] = setting((), "Every file of tidy results that the study makes.")
    figures: Figures = Field(default_factory=Figures, description="Style and views.")
    claims: Claims = Field(default_factory=Claims, description="What is tested.")

    def parts_of(self, table: str) -> Iterator[Part]:
        """The files of one kind."""
        return (part for part in self.parts if part.table == table)
