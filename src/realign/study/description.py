"""What a study is made of, as its tidy results say it (`tidy/study.json`).

Figures, tables, claims and the report are planned from this description and from nothing else, so
an archive of tidy results can be drawn again without the study file or the models.
"""

import functools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from realign.measures.families import parts_of_file
from realign.names import EmbedderId, is_embedder
from realign.study.base import Section, setting
from realign.study.claims import Claims
from realign.study.figures import Figures
from realign.study.hrsa import Context, Floor
from realign.study.kinds import Kind
from realign.study.series import SeriesEntry

ORDERED = ("backbones", "recipes", "corpora", "datasets", "benchmarks")


class PairEntry(Section):
    """A pair of backbones as figures need it."""

    name: str = setting(..., "The pair's name, left--vs--right.")
    left: str = setting(..., "The base backbone.")
    right: str = setting(..., "The post-trained backbone.")
    kind: Kind = setting(..., "What lies between the two.")
    tags: tuple[str, ...] = setting((), "Its free words.")
    embed: bool = setting(True, "Whether embedders of both sides are compared.")
    path: str = setting("", "Whether it lies along a series: empty, start or step.")


class Comparison(Section):
    """Two models that are compared, what the comparison stands for, and its files of measures.

    What is not written into the description (`exclude`) only the comparison's jobs need.
    """

    left: str = setting(..., "The model on the left.")
    right: str = setting(..., "The model on the right, or the floor that is made of the left one.")
    stage: Literal["backbone", "embedder", "checkpoint"] = setting(..., "Which models are compared.")
    pair: str = setting(..., "The pair, or the name of the control.")
    kind: Kind = setting(..., "What lies between the two.")
    recipe: str = setting("", "The training recipe, for embedders.")
    files: tuple[str, ...] = setting((), "Corpus, attention mode and family, for each file.")
    tags: tuple[str, ...] = setting((), "The pair's free words.", exclude=True)
    step: int | None = setting(None, "The step of contrastive training, for checkpoints.", exclude=True)
    seed_left: int | None = setting(None, "The left embedder's contrastive seed.", exclude=True)
    seed_right: int | None = setting(None, "The right embedder's contrastive seed.", exclude=True)
    other_seed: str = setting("", "The left embedder of another seed.", exclude=True)
    floor: Floor | None = setting(None, "How the right side is made of the left model.", exclude=True)
    path: str = setting("", "Whether it lies along a series: empty, start or step.", exclude=True)

    @property
    def name(self) -> str:
        """The comparison's identity in paths."""
        return f"{self.left}--vs--{self.right}"

    @property
    def models(self) -> tuple[str, str]:
        """The models that are read: a floor is made of the left one alone."""
        return self.left, self.left if self.floor else self.right

    def context(self, study: str, corpus: str) -> Context:
        """What rows of measures on a corpus say of the comparison."""
        own = {name: getattr(self, name) for name in Context.model_fields if name in type(self).model_fields}
        return Context(**own | {"study": study, "corpus": corpus, "recipe": self.recipe or None})


class Part(NamedTuple):
    """One file of tidy results and what it is about."""

    table: str  # measures, scores, queries, backbones, training, mining or audits
    path: str  # below the folder of tidy results
    model: str = ""  # the backbone, embedder or data set it is about
    recipe: str = ""
    stage: str = ""
    pair: str = ""
    kind: str = ""
    corpus: str = ""
    attention: str = ""
    family: str = ""


class Description(Section):
    """A study's parts, their labels, and how its results are to be drawn and judged."""

    name: str = setting(..., "The study's name.")
    title: str = setting("", "Its title.")
    question: str = setting("", "Its question.")
    scope: str = setting("", "What its results can show and what they cannot.")
    synthetic: bool = setting(False, "Whether the results were made up to try the drawings.")
    seeds: tuple[int, ...] = setting((), "Seeds of the contrastive trainings.")
    backbones: dict[str, dict[str, Any]] = setting({}, "The backbones and what is known of each.")
    pairs: tuple[PairEntry, ...] = setting((), "The pairs, in the study's order.")
    series: tuple[SeriesEntry, ...] = setting((), "The series, and the place of each backbone on them.")
    recipes: dict[str, dict[str, Any]] = setting({}, "The training recipes and their settings.")
    corpora: dict[str, dict[str, Any]] = setting({}, "The probe corpora and what is known of each.")
    probe: dict[str, Any] = setting({}, "How probes divide texts: the share for testing, how many times.")
    datasets: dict[str, dict[str, Any]] = setting({}, "The training data sets.")
    benchmarks: dict[str, list[str]] = setting({}, "The benchmarks and their tasks.")
    compared: tuple[Comparison, ...] = setting((), "Every comparison of two models.")
    scored: tuple[str, ...] = setting((), "Models that have benchmark scores.")
    judged: tuple[str, ...] = setting((), "Backbones that have numbers of their own, such as a pass rate.")
    trained: tuple[str, ...] = setting((), "Embedders whose training was logged.")
    mined: tuple[str, ...] = setting((), "Data sets whose negatives were mined.")
    audited: tuple[str, ...] = setting((), "Data sets whose mined negatives were audited.")
    figures: Figures = Field(default_factory=Figures, description="Style and views.")
    claims: Claims = Field(default_factory=Claims, description="What is tested.")
    order: dict[str, tuple[str, ...]] = setting(
        {}, "The names of each section in the study's order, which JSON with sorted names does not keep."
    )

    @model_validator(mode="before")
    @classmethod
    def _in_order(cls, data: dict[str, Any]) -> dict[str, Any]:
        """What comes first is drawn and judged as the main one, so the study's order must survive files."""
        order = data.get("order") or {name: tuple(data[name]) for name in ORDERED if data.get(name)}
        sorted_out = {
            name: {key: data[name][key] for key in (*(n for n in names if n in data[name]), *data[name])}
            for name, names in order.items()
            if name in data
        }
        return {**data, **sorted_out, "order": order}

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every file of tidy results that the study makes."""
        return (*self._measures(), *self._others())

    def __copy__(self) -> Self:
        """A copy is made to be changed, so it has to find its own parts."""
        fresh = super().__copy__()
        fresh.__dict__.pop("parts", None)
        return fresh

    def as_slice(self) -> dict[str, Any]:
        """What differs from the defaults: a study of many pairs has to fit on a command line."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def parts_of(self, table: str) -> Iterator[Part]:
        """The files of one kind."""
        return (part for part in self.parts if part.table == table)

    def _measures(self) -> Iterator[Part]:
        for c in self.compared:
            for file in c.files:
                corpus, attention, family = parts_of_file(file)
                path = f"measures/{c.name}/{file}.parquet"
                about = {"recipe": c.recipe, "stage": c.stage, "pair": c.pair, "kind": c.kind}
                yield Part("measures", path, corpus=corpus, attention=attention, family=family, **about)

    def _others(self) -> Iterator[Part]:
        for table, models in (
            ("scores", self.scored), ("queries", self.scored), ("backbones", self.judged),
            ("training", self.trained), ("mining", self.mined), ("audits", self.audited),
        ):  # fmt: skip
            for model in models:
                recipe = EmbedderId.parse(model).recipe if is_embedder(model) else ""
                yield Part(table, f"{table}/{model}.parquet", model, recipe)
