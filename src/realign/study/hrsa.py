"""How two models are compared: which measures, on which corpora, with which intervals and floors."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from realign.measures.families import FAMILIES
from realign.study.base import Name, Section, setting
from realign.study.embedder import Attention
from realign.study.errors import as_choice, nearest, one_of
from realign.study.kinds import Kind

FamilyName = Annotated[str, one_of(FAMILIES, "family of measures"), as_choice(FAMILIES)]
Floor = Literal["shuffled", "shuffled_in_texts", "rotated"]
Alignment = Literal["ids", "offsets", "counts"]
ProbeTask = Literal["auto", "classes", "quantity"]
FEWEST_GROUPS = 5  # the debiased CKA takes four, and its interval four without any one of them


class Context(Section):
    """What a comparison stands for; it is written into every row and changes no number but by `floor`."""

    study: str = setting("", "The study's name.")
    stage: Literal["", "backbone", "embedder", "checkpoint"] = setting("", "Whose states are compared.")
    step: int | None = setting(None, "The step of contrastive training, for checkpoints.", unit="steps")
    recipe: str | None = setting(None, "The training recipe, for embedders.")
    pair: str = setting("", "The pair of backbones, or the control's name.")
    kind: Kind | Literal[""] = setting("", "The kind of pair, such as rlvr.")
    tags: tuple[str, ...] = setting((), "The pair's free words.")
    corpus: str = setting("", "The corpus's name; empty takes the one that the states name.")
    seed_left: int | None = setting(None, "The left embedder's contrastive seed.")
    seed_right: int | None = setting(None, "The right embedder's contrastive seed.")
    floor: Floor | None = setting(
        None,
        "Compare the left model with itself made unlike: tokens shuffled, all or within each text, or "
        "coordinates rotated at random.",
    )


class ComparingModels(Section):
    """What every family of measures needs to know."""

    context: Context = Field(Context(), description="What the comparison stands for.")
    groups: int = setting(
        20,
        "Groups of texts for intervals; with fewer texts each is a group.",
        unit="groups",
        ge=FEWEST_GROUPS,
    )
    confidence: float = setting(0.95, "Confidence of intervals.", gt=0, lt=1)
    seed: int = setting(0, "The seed of every random choice.", ge=0)


class Comparing(ComparingModels):
    """What families of measures of hidden states need to know beside it."""

    alignment: Alignment = setting(
        "ids",
        "Which rows stand for each other: equal tokens, row by row; or by `offsets` those that are the same "
        "characters; or by `counts`, as published, whatever stands at equal places of equally long texts.",
    )


class Linear(Section):
    """Correlation, CKA and Procrustes: what one pass over moments gives."""

    precision: Literal["float32", "float64"] = setting(
        "float32",
        "Precision of correlation's and CKA's products; their sums, and all of Procrustes, are in float64.",
    )
    sink_length: float = setting(
        5.0,
        "A token is an attention sink if its distance from the mean exceeds so many times the median one, "
        "in any layer of either model. Linear measures are also given without such tokens.",
        gt=1,
    )
    procrustes_intervals: Literal["final", "all"] = setting(
        "final",
        "Layers whose rotation is fitted again without each group of texts, for intervals; the others are "
        "fitted on either half of the texts and judged on the other.",
    )


class Neighbours(Section):
    """Overlap of nearest neighbours, layer by layer."""

    k: tuple[int, ...] = setting((5, 10, 50), "Sizes of the neighbourhood.", unit="neighbours", min_length=1)
    metric: Literal["cosine", "euclidean"] = setting("cosine", "What near means.")
    same_text: bool = setting(True, "Whether tokens of the same text can be neighbours.")
    max_tokens: int | None = setting(
        50_000, "Take at most this many tokens, drawn by seed, the same for all layers.", unit="tokens", ge=10
    )

    @model_validator(mode="after")
    def _rising(self) -> "Neighbours":
        if min(self.k) < 1 or list(self.k) != sorted(set(self.k)):
            raise ValueError("k: give distinct sizes of 1 or more in rising order")
        return self


class Probe(Section):
    """Linear probes, fitted on one model's pooled states and read from both."""

    task: ProbeTask = setting(
        "auto",
        "What labels are: `classes`, a `quantity`, or, by `auto`, a quantity where all are numbers and more "
        "than 20 differ, else classes. Say `classes` where numbers are the ids of many classes.",
    )
    layers: Literal["all", "final"] | tuple[int, ...] = setting(
        "all", "Layers to probe; final is the embedding alone."
    )
    seeds: int = setting(3, "Splits of the texts, each with its own seed.", unit="splits", ge=1)
    dev: float = setting(0.1, "Share of the texts for choosing the regularisation.", gt=0, lt=0.5)
    test: float = setting(0.1, "Share of the texts for testing.", gt=0, lt=0.5)
    c: tuple[float, ...] = setting(
        (0.01, 0.1, 1.0), "Inverse strengths of the L2 penalty; the best on dev is taken.", min_length=1
    )
    iterations: int = setting(1000, "Steps of the optimiser at most.", unit="steps", ge=10)
    normalize: bool = setting(True, "Scale each vector to length 1 first, as embeddings are used.")
    procrustes: bool = setting(
        False, "Also read through the rotation that best maps the other model onto the probe's."
    )
    least: int = setting(5, "Classes with fewer texts are left out.", unit="texts", ge=3)
    max_texts: int | None = setting(8000, "Take at most this many texts, drawn by seed.", unit="texts", ge=20)


class Extra(Section):
    """Other measures of the literature, on a sample of tokens."""

    max_tokens: int = setting(
        1000,
        "Take at most this many tokens, drawn by seed; memory grows with their square.",
        unit="tokens",
        ge=20,
    )
    variance: float = setting(0.99, "Share of the variance that SVCCA and PWCCA keep.", gt=0, le=1)
    components: float = setting(
        0.1,
        "Components that SVCCA and PWCCA keep at most, as a share of the tokens: with as many components as "
        "tokens any two models match.",
        gt=0,
        le=1,
    )
    rbf: float | None = setting(
        0.5, "Width of RBF CKA's kernel, times the median distance; nothing leaves it out.", gt=0
    )


class Weights(Section):
    """The update between two models' weights, tensor by tensor."""

    top: int = setting(
        32,
        "Principal directions of a matrix; of a small one a quarter of its shorter side at most.",
        unit="directions",
        ge=1,
    )
    tolerance: float = setting(1e-5, "A weight that moves by no more counts as the same.", ge=0)
    largest: float = setting(0.1, "The share of a tensor's weights that counts as its largest.", gt=0, lt=1)
    exact: int = setting(
        512,
        "Matrices whose shorter side is no longer are decomposed exactly, others by a random sketch.",
        unit="weights",
        ge=1,
    )


class Behaviour(Section):
    """What two models expect to come next, token by token."""

    positions: tuple[int, ...] = setting(
        (8, 32, 128, 512), "Positions in a text at which a new bin begins.", unit="tokens"
    )
    entropy_bins: int = setting(5, "Bins of equally many tokens by the left model's entropy.", ge=2)
    sample: int = setting(
        2000, "Tokens, drawn by seed, that lens and stitching are judged on.", unit="tokens", ge=20
    )
    ridge: float = setting(
        1e-3, "Ridge of the affine map of stitching, as a share of each dimension's variance.", gt=0
    )

    @model_validator(mode="after")
    def _rising(self) -> "Behaviour":
        if list(self.positions) != sorted(set(self.positions)) or min(self.positions, default=1) < 1:
            raise ValueError("positions: give distinct positions of 1 or more in rising order")
        return self


class LinearJob(Comparing, Linear):
    """One comparison's linear measures."""


class NeighboursJob(Comparing, Neighbours):
    """One comparison's neighbourhood overlap."""


class ProbeJob(Comparing, Probe):
    """One comparison's probes."""


class ExtraJob(Comparing, Extra):
    """One comparison's further measures."""


class WeightsJob(ComparingModels, Weights):
    """One comparison's weights."""


class BehaviourJob(ComparingModels, Behaviour):
    """One comparison's behaviour."""


# The settings of each family's jobs: its own, and those that it shares with others.
JOBS: dict[str, type[ComparingModels]] = {
    "linear": LinearJob,
    "neighbours": NeighboursJob,
    "probe": ProbeJob,
    "extra": ExtraJob,
    "weights": WeightsJob,
    "survival": ComparingModels,
    "behaviour": BehaviourJob,
}


class Hrsa(Section):
    """Which comparisons are made, of what, and how."""

    families: tuple[FamilyName, ...] = setting(
        tuple(FAMILIES), f"Families of measures: {', '.join(FAMILIES)}."
    )
    corpora: tuple[Name, ...] = setting((), "Probe corpora, the main one first; none means all of the study.")
    backbone_attention: tuple[Attention, ...] = setting(
        ("bidirectional", "causal"), "Attention modes of backbones; embedders have their own."
    )
    floors: tuple[Floor, ...] = setting(
        ("shuffled", "shuffled_in_texts", "rotated"),
        "Floors made from a base backbone's own states, on the main corpus.",
    )
    alignment: Alignment = setting(
        "ids",
        "Which rows stand for each other: equal tokens, row by row; or by `offsets` those that are the same "
        "characters; or by `counts`, as published, whatever stands at equal places of equally long texts.",
    )
    groups: int = setting(20, "Groups of texts for intervals.", unit="groups", ge=FEWEST_GROUPS)
    confidence: float = setting(0.95, "Confidence of intervals.", gt=0, lt=1)
    linear: Linear = Field(Linear(), description="Correlation, CKA and Procrustes.")
    neighbours: Neighbours = Field(Neighbours(), description="Overlap of nearest neighbours.")
    probe: Probe = Field(Probe(), description="Linear probes.")
    extra: Extra = Field(Extra(), description="Further measures.")
    weights: Weights = Field(Weights(), description="The update between two models' weights.")
    behaviour: Behaviour = Field(Behaviour(), description="What two models expect to come next.")

    def job(self, family: str, context: Context, seed: int) -> ComparingModels:
        """The settings slice of one comparison's job: what all share, and the family's own section."""
        given = dict(self) | dict(getattr(self, family, {})) | {"context": context, "seed": seed}
        return JOBS[family](**{name: given[name] for name in JOBS[family].model_fields})

    def problems_in(self, study: Any) -> Iterator[str]:
        """Corpora that the study does not have, and names that floors need for themselves."""
        known = study.text.probes
        for i, corpus in enumerate(self.corpora):
            if corpus not in known:
                yield f"hrsa.corpora[{i}]: no probe corpus '{corpus}'{nearest(corpus, known)}"
        for name in self.floors:
            if name in study.backbones:
                yield f"backbones.{name}: the name stands for a floor; choose another"
