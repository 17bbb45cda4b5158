"""A whole study: its sections, and the checks that need more than one of them."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from realign.study.backbones import ScoreBackbone
from realign.study.base import Name, Section
from realign.study.claims import Claims
from realign.study.data import Data
from realign.study.embedder import EmbedderSettings
from realign.study.errors import undeclared
from realign.study.evaluation import Evaluation
from realign.study.figures import Figures
from realign.study.hrsa import Hrsa
from realign.study.mining import Mining
from realign.study.pairs import Pair
from realign.study.project import Project
from realign.study.recipe import Recipe, recipe_problems
from realign.study.resources import Resources
from realign.study.series import series_of, series_problems
from realign.study.sources import Backbone, backbone_problems, held_out_problems, tokenizers_differ
from realign.study.states import States
from realign.study.text import Text
from realign.study.traces import Traces


class _LackingSection(AttributeError):
    """A check asked for a section that is itself wrong, and so is not there."""


class Study(Section):
    """One YAML file: what to compare, trained how, judged by what."""

    study: Project = Field(description="Name, seeds and the question.")
    backbones: dict[Name, Backbone] = Field(description="The backbones by name, and where each comes from.")
    pairs: tuple[Pair, ...] = Field((), description="Which backbones are compared with which.")
    backbone_scores: ScoreBackbone = Field(
        ScoreBackbone(), description="How backbones are judged by themselves: problems solved, perplexity."
    )
    embedder: EmbedderSettings = Field(
        EmbedderSettings(), description="How a backbone becomes an embedding model: attention and pooling."
    )
    recipes: dict[Name, Recipe] = Field({}, description="Ways to train an embedder, by name.")
    text: Text = Field(Text(), description="Corpora, evaluation sets, problems and probes made from text.")
    data: Data = Field(Data(), description="Training datasets by name.")
    mining: Mining = Field(Mining(), description="Hard negatives: teacher, search, filters.")
    states: States = Field(States(), description="Hidden states of all layers, for comparisons.")
    traces: Traces = Field(Traces(), description="Reasoning traces as texts: counted, or generated anew.")
    hrsa: Hrsa = Field(Hrsa(), description="How hidden states are compared.")
    evaluation: Evaluation = Field(Evaluation(), description="What embedders are evaluated on, and how.")
    figures: Figures = Field(Figures(), description="How figures and tables look, and what they show.")
    claims: Claims = Field(Claims(), description="What is claimed, and how it is tested.")
    resources: Resources = Field(Resources(), description="Threads, memory, time and GPUs of jobs.")

    @model_validator(mode="after")
    def _with_series(self) -> "Study":
        """Every backbone that a series stands for, and its pairs, as if the study had listed them."""
        for series in series_of(self.backbones, self.pairs):
            own = self.resources.backbones.get(series.name)
            if own:
                shared = dict.fromkeys(series.others, own) | self.resources.backbones
                self.__dict__["resources"] = self.resources.model_copy(update={"backbones": shared})
            self.__dict__["backbones"] = {**self.backbones, **(series.others | self.backbones)}
            self.__dict__["pairs"] = (*self.pairs, *series.pairs(self.pairs))
        return self

    def problems(self) -> list[str]:
        """What is wrong across sections, a line each; nothing when the study is sound.

        A section that has something to check against others has a method
        `problems_in(study) -> Iterator[str]`. Where a section is lacking, since it is itself wrong, a
        check goes as far as it comes without it.
        """
        own = (getattr(section, "problems_in", None) for section in self.__dict__.values())
        checks: list[Callable[[], Iterator[str]]] = [
            self._pair_problems,
            self._tokenizer_problems,
            self._backbone_problems,
            self._recipe_problems,
            *(functools.partial(check, self) for check in own if check is not None),
        ]
        found: list[str] = []
        for check in checks:
            try:
                for problem in check():
                    found.append(problem)
            except _LackingSection:
                continue
        return found

    if not TYPE_CHECKING:  # where any name would do

        def __getattr__(self, name: str) -> Any:
            """What is no attribute: a section that is lacking, or a mistake in this code."""
            if name in type(self).model_fields:
                raise _LackingSection(name)
            return super().__getattr__(name)

    def _backbone_problems(self) -> Iterator[str]:
        yield from series_problems(self.backbones, self.pairs)
        yield from backbone_problems(self.backbones)
        yield from held_out_problems(self.backbone_scores, self.backbones)

    def _recipe_problems(self) -> Iterator[str]:
        embedded = {name for pair in self.pairs if pair.embed for name in (pair.left, pair.right)}
        backbones = getattr(self, "backbones", {})
        made_here = {name for name, backbone in backbones.items() if backbone.made_here}
        known = set(getattr(self, "backbones", embedded))
        if not self.pairs and (naming := [name for name, recipe in self.recipes.items() if recipe.backbones]):
            yield (
                f"pairs: none is listed, so recipes.{naming[0]} trains nothing; list the backbones that are "
                "compared, such as - {left: base, right: tuned, kind: rlvr}"
            )
            return
        if not embedded <= known:  # a misspelt side may stand for any backbone
            embedded = known
        yield from recipe_problems(self.recipes, self.data.datasets, embedded, known, made_here)

    def _tokenizer_problems(self) -> Iterator[str]:
        for i, pair in enumerate(self.pairs):
            if (
                pair.left != pair.right
                and self.hrsa.alignment == "ids"
                and tokenizers_differ(pair, self.backbones)
            ):
                yield (
                    f"pairs[{i}]: '{pair.left}' and '{pair.right}' are made with different tokenizers; "
                    "derive one from the other, or set hrsa.alignment: offsets and states.tokens.count: null"
                )

    def _pair_problems(self) -> Iterator[str]:
        for i, pair in enumerate(self.pairs):
            for side in ("left", "right"):
                name = getattr(pair, side)
                if name not in self.backbones:
                    yield f"pairs[{i}].{side}: {undeclared(name, self.backbones)}"
            if pair.left == pair.right:
                yield f"pairs[{i}]: both sides are '{pair.left}'"
        for name, count in Counter(pair.name for pair in self.pairs).items():
            if count > 1:
                yield f"pairs: '{name}' is listed {count} times"
