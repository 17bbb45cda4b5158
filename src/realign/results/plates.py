"""Every figure and table: its name, what it shows, the code that makes it and the results it reads.

This is data, imported by the workflow and the command line; it decides which tidy results are an
input of which plate ("plate" stands for a figure or a table).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Tidy results that a plate reads; an empty field asks for nothing in particular."""

    table: str
    stages: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    controls: bool = False  # also the floors: one backbone, two seeds
    pooled: bool = False  # also backbones as they are, without contrastive training
    every_recipe: bool = False
    required: bool = True  # whether without any of these there is nothing to show


@dataclass(frozen=True)
class Plate:
    """A figure or a table of the paper, or one of our own."""

    name: str
    title: str
    caption: str
    module: str
    needs: tuple[Needs, ...] = ()
    pairs: str = "all"  # all of the study, or the two of the main text
    corpora: str = "all"  # all probe corpora, or the main one
    measure: str = ""
    stage: str = ""
    references: tuple[str, ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether it is a table rather than a figure."""
        return self.name.startswith("table_")

    @property
    def label(self) -> str:
        """`Figure 3`, `Table 12`, or `Figure gains` for our own."""
        kind, rest = self.name.split("_", 1)
        return f"{kind.title()} {rest}"

    @property
    def category(self) -> str:
        """Where the report files it."""
        return CATEGORIES[self.module]


CATEGORIES = {
    "schematic_models": "The question",
    "schematic_hrsa": "The question",
    "benchmark": "Benchmarks",
    "gains": "Benchmarks",
    "cost": "Benchmarks",
    "adapters": "Benchmarks",
    "before": "Benchmarks",
    "composite": "Representations",
    "heatmaps": "Representations",
    "neighbours": "Representations",
    "rotation": "Representations",
    "overlap": "Representations",
    "probes": "Representations",
    "floors": "Representations",
    "dynamics": "Training",
    "curves": "Training",
    "recipe": "Training",
    "mining": "Data",
    "datasets": "Data",
    "corpora": "Data",
    "levels": "The question",
    "summary": "Representations",
    "models": "The question",
}


def _measures(*stages: str, families: tuple[str, ...], controls: bool = False) -> Needs:
    return Needs("measures", stages, families, controls)


def _figure(name: object, title: str, caption: str, module: str, *needs: Needs, **more: object) -> Plate:
    return Plate(f"figure_{name}", title, caption, module, needs, **more)  # type: ignore[arg-type]


def _table(number: int, title: str, caption: str, module: str, *needs: Needs, **more: object) -> Plate:
    return Plate(f"table_{number}", title, caption, module, needs, **more)  # type: ignore[arg-type]


_LINEAR, _NEAR, _PROBE = ("linear",), ("neighbours",), ("probe",)
_PROBED = (
    "Whiskers are 95 % intervals: train and dev, which the probe was fitted and chosen on, have none, and "
    "that of an accuracy of 1 has no width."
)
_PRINTED = ("rotation", "overlap")  # the measures whose numbers the paper prints
_HEAT = (
    "Rows are layers of the base model, columns layers of the post-trained one; layer 0, the embedding "
    "output, is marked E."
)

_PLATES = (
    _figure(
        1,
        "Models and the roads between them",
        "Base and post-trained backbones, the embedders that contrastive training (CL) makes of both, and "
        "what is expected of their representations (z): alike after RLVR, unlike after SFT. A drawing; "
        "no data.",
        "schematic_models",
        pairs="main",
    ),
    _figure(
        2,
        "Three levels of comparison",
        "Hierarchical representational similarity: each level forgives more transformations of the space "
        "than the one before. A drawing; no data.",
        "schematic_hrsa",
        pairs="none",
    ),
    _figure(
        3,
        "Dimension-wise correlation and linear CKA, backbones over embedders",
        "Dimension-wise correlation (left) and linear CKA (right) of an SFT pair and an RLVR pair; backbones "
        f"above, their embedders below. {_HEAT}",
        "composite",
        _measures("backbone", "embedder", families=_LINEAR),
        pairs="main",
        corpora="main",
    ),
    _figure(
        4,
        "A linear probe moved from one model to the other",
        "Accuracy of a probe fitted on the base model's vectors and read from both models, by split. "
        f"The difference stands above each pair of bars. {_PROBED}",
        "probes",
        _measures("backbone", "embedder", families=_PROBE),
        pairs="main",
        corpora="any",
    ),
    _figure(
        5,
        "Similarity along contrastive training",
        "Each measure against the step of contrastive training; step 0 is the pair of backbones, the last "
        "step the finished embedders. Shading is the 95 % interval; diamonds are published values.",
        "dynamics",
        _measures("backbone", "embedder", "checkpoint", families=(*_LINEAR, *_NEAR, *_PROBE)),
        Needs("training", required=False),
        corpora="main",
        stage="embedder",
        references=_PRINTED,
    ),
    _figure(
        6,
        "Dimension-wise correlation of all backbone pairs",
        f"Mean correlation of equal dimensions, every pair and corpus. {_HEAT} SFT pairs are shaded.",
        "heatmaps",
        _measures("backbone", families=_LINEAR),
        measure="correlation",
        stage="backbone",
    ),
    _figure(
        7,
        "Dimension-wise correlation of all embedding pairs",
        f"Mean correlation of equal dimensions, every pair and corpus. {_HEAT} SFT pairs are shaded.",
        "heatmaps",
        _measures("embedder", families=_LINEAR),
        measure="correlation",
        stage="embedder",
    ),
    _figure(
        8,
        "Linear CKA of all backbone pairs",
        f"Linear CKA of every pair of layers, every pair and corpus. {_HEAT} SFT pairs are shaded.",
        "heatmaps",
        _measures("backbone", families=_LINEAR),
        measure="cka",
        stage="backbone",
    ),
    _figure(
        9,
        "Linear CKA of all embedding pairs",
        f"Linear CKA of every pair of layers, every pair and corpus. {_HEAT} SFT pairs are shaded.",
        "heatmaps",
        _measures("embedder", families=_LINEAR),
        measure="cka",
        stage="embedder",
    ),
    _figure(
        10,
        "Neighbourhood overlap of all backbone pairs",
        "Mean overlap (Jaccard) of the k nearest neighbours of each token, layer by layer; E is the "
        "embedding output. SFT pairs are shaded.",
        "neighbours",
        _measures("backbone", families=_NEAR),
        stage="backbone",
    ),
    _figure(
        11,
        "Neighbourhood overlap of all embedding pairs",
        "Mean overlap (Jaccard) of the k nearest neighbours of each token, layer by layer; E is the "
        "embedding output. SFT pairs are shaded.",
        "neighbours",
        _measures("embedder", families=_NEAR),
        stage="embedder",
    ),
    _figure(
        12,
        "Linear probes of all backbone pairs",
        "Accuracy of a probe fitted on the base backbone and read from both, by split; SFT pairs are shaded. "
        f"{_PROBED}",
        "probes",
        _measures("backbone", families=_PROBE),
        corpora="any",
        stage="backbone",
    ),
    _figure(
        13,
        "Linear probes of all embedding pairs",
        "Accuracy of a probe fitted on the base embedder and read from both, by split; SFT pairs are shaded. "
        f"{_PROBED}",
        "probes",
        _measures("embedder", families=_PROBE),
        corpora="any",
        stage="embedder",
    ),
    _figure(
        "gains",
        "Gains on benchmarks, with intervals and the band of equivalence",
        "Mean gain of the post-trained side on each benchmark (points of 100) with its 90 % interval, over "
        "tasks and seeds; the band is the margin of equivalence, small marks are the seeds. Diamonds are "
        "published values.",
        "gains",
        Needs("scores"),
        references=("benchmarks",),
    ),
    _figure(
        "floors",
        "Similarity against its floors",
        "Each measure of each pair beside its floors: two contrastive seeds of one backbone, random weights "
        "of the base's shape, and what chance gives; diamonds are published values.",
        "floors",
        _measures("backbone", "embedder", families=(*_LINEAR, *_NEAR), controls=True),
        corpora="main",
        references=_PRINTED,
    ),
    _figure(
        "loss",
        "Loss and validation along contrastive training",
        "Training loss (a running mean), validation loss and validation nDCG@10 by step.",
        "curves",
        Needs("training"),
    ),
    _figure(
        "mining",
        "Scores of mined negatives",
        "Scores of positives and of kept negatives, by data set: median, middle half and 5th to 95th "
        "percentile; beside them, what became of the candidates.",
        "mining",
        Needs("mining"),
        pairs="none",
    ),
    _figure(
        "cost",
        "Cost against score",
        "Mean benchmark score against what the training computed (six operations for each parameter and "
        "token); where costs differ, a line joins what nothing beats on both. Of many points those alone are "
        "named.",
        "cost",
        Needs("scores"),
        Needs("training"),
        Needs("backbones"),
    ),
    _table(
        1,
        "Benchmark scores of base and post-trained embedders",
        "Mean over tasks, base / post-trained / difference with its standard deviation over seeds, 90 % "
        "interval over tasks and seeds, and the p-values of the paired test and of equivalence. "
        "Published values are beside those of the same pair.",
        "benchmark",
        Needs("scores"),
        references=("benchmarks",),
    ),
    _table(
        2,
        "What each level of comparison says",
        "Numbers of this study by level and kind of post-training, and the published wording beside them.",
        "summary",
        _measures("backbone", "embedder", families=(*_LINEAR, *_NEAR, *_PROBE)),
        corpora="main",
        references=("summary",),
    ),
    _table(
        3,
        "Inverse row entropy of the Procrustes rotation, main pairs",
        "1 is a signed permutation of dimensions; a random rotation gives the value under chance.",
        "rotation",
        _measures("backbone", "embedder", families=_LINEAR),
        pairs="main",
        corpora="main",
        references=("rotation",),
    ),
    _table(
        4,
        "Neighbourhood overlap, main pairs",
        "Mean over layers of the overlap of k nearest neighbours.",
        "overlap",
        _measures("backbone", "embedder", families=_NEAR),
        pairs="main",
        corpora="main",
        references=("overlap",),
    ),
    _table(
        5,
        "Hyper-parameters of contrastive training",
        "The recipe of this study beside the published one.",
        "recipe",
        pairs="none",
        references=("recipe",),
    ),
    _table(
        6,
        "Full training and adapters",
        "Mean benchmark score by training recipe.",
        "adapters",
        Needs("scores", every_recipe=True),
        references=("adapters",),
    ),
    _table(
        7,
        "Training data",
        "Pairs with mined negatives in each data set.",
        "datasets",
        Needs("mining"),
        pairs="none",
        references=("datasets",),
    ),
    _table(
        8,
        "Levels, invariances and measures",
        "What each level must and must not forgive, its default measures and what could stand in for them; "
        "the last column says what this study measured.",
        "levels",
        _measures("backbone", families=(*_LINEAR, *_NEAR, *_PROBE, "extra")),
        corpora="main",
        references=("levels",),
    ),
    _table(
        9,
        "Pairs of backbones",
        "Where each pair of backbones comes from and what lies between the two: the share of held-out "
        "problems solved, and what the post-trained side gains on the same problems, one by one.",
        "models",
        Needs("backbones", required=False),
        stage="backbone",
        references=("backbones",),
    ),
    _table(
        10,
        "Pairs of embedders",
        "The pairs whose both sides were trained into embedders.",
        "models",
        Needs("backbones", required=False),
        stage="embedder",
        references=("embedders",),
    ),
    _table(
        11,
        "Probe corpora",
        "Texts and tokens of each corpus, and how often the generator of reasoning texts was right.",
        "corpora",
        _measures("backbone", families=(*_LINEAR, *_NEAR)),
        references=("corpora",),
    ),
    _table(
        12,
        "Inverse row entropy of all backbone pairs",
        "Final layer, every pair and corpus.",
        "rotation",
        _measures("backbone", families=_LINEAR),
        stage="backbone",
        references=("rotation",),
    ),
    _table(
        13,
        "Inverse row entropy of all embedding pairs",
        "Final layer, every pair and corpus; mean over seeds.",
        "rotation",
        _measures("embedder", families=_LINEAR),
        stage="embedder",
        references=("rotation",),
    ),
    Plate(
        "table_before",
        "Backbones without contrastive training, and with",
        "Mean benchmark score of each backbone as it is, pooled like an embedder, of its embedders, and of "
        "random weights where the study has them.",
        "before",
        (Needs("scores", pooled=True),),
    ),
)

PLATES: dict[str, Plate] = {plate.name: plate for plate in _PLATES}
FIGURES = [name for name, plate in PLATES.items() if not plate.is_table]
TABLES = [name for name, plate in PLATES.items() if plate.is_table]
