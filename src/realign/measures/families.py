"""The families of comparisons: which ones there are, what each reads and what its jobs ask for.

Rules, commands, settings, plan and costs read this table. An entry, its settings (`study/hrsa.py`), its
measures (a file beside this one) and its code are all that a new family needs. `realign --help` reads the
table too, so this module imports nothing heavy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# Hidden states of tokens, pooled states of labelled texts, or the folders of the models themselves.
Reads = Literal["states", "pooled", "models"]


@dataclass(frozen=True)
class Family:
    """Measures of two models that one job computes, and what such a job needs."""

    name: str
    help: str
    run: str  # the function that does the work, as `module:function`
    reads: Reads = "states"
    corpus: bool = True  # whether it compares over a corpus, as all that read states do
    heads: bool = False  # whether it also reads the models that states are of, and their corpus
    modes: tuple[str, ...] = ("bidirectional", "causal")  # the attention modes that it makes sense in
    origins: bool = False  # whether it also reads what both embedders were trained from, and another seed's
    stages: tuple[str, ...] = ("backbone", "embedder", "checkpoint")  # the models that it can compare
    outputs: Mapping[str, str] = field(default_factory=dict)  # HDF5 files beside the measures, described
    formats: Mapping[str, int] = field(default_factory=lambda: {"measures": 1})
    gpus: bool = False  # whether its work can use a GPU
    memory_gb: float = 4
    hours: float = 4  # its time limit
    usual_hours: float = 0.05  # its cost where it was never measured

    @property
    def command(self) -> str:
        """Its command, and the rule that calls it."""
        return f"hrsa_{self.name}"

    @property
    def attention(self) -> bool:
        """Whether it is made once for each attention mode: states are, and a model folder has none."""
        return self.reads != "models"

    def place(self, corpus: str, attention: str) -> str:
        """The corpus and the attention mode in a path, as far as this family has them."""
        parts = (corpus if self.corpus else "", attention if self.attention else "")
        return "+".join(filter(None, parts))

    def file(self, corpus: str, attention: str) -> str:
        """Its file of one comparison, without suffix: `docs+causal.linear`, `docs.linear` or `linear`."""
        return ".".join(filter(None, (self.place(corpus, attention), self.name)))


def parts_of_file(file: str) -> tuple[str, str, str]:
    """The corpus, the attention mode and the family in such a name; empty where the family has none."""
    place, _, family = file.rpartition(".")
    corpus, _, attention = place.partition("+")
    return corpus, attention, family


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "linear",
            help="Compare two models' states: correlation, CKA and Procrustes.",
            run="realign.hrsa.linear:run",
            outputs={"matrices": "Matrices worth keeping, HDF5."},
            formats={"measures": 2, "matrices": 1},
            gpus=True,
        ),
        Family(
            "neighbours",
            help="Compare two models' states: overlap of nearest neighbours.",
            run="realign.hrsa.neighbours:run",
            formats={"measures": 2},
            gpus=True,
        ),
        Family(
            "probe",
            help="Compare two models' pooled states: linear probes moved between them.",
            run="realign.hrsa.probe:run",
            reads="pooled",
            formats={"measures": 2},
        ),
        Family(
            "extra",
            help="Compare two models' states: RSA, RBF CKA, SVCCA, PWCCA, dimension and isotropy.",
            run="realign.hrsa.extra:run",
            formats={"measures": 2},
            gpus=True,
            hours=2,
        ),
        Family(
            "weights",
            help="Compare two models' weights: size, sparsity, rank and directions of the update.",
            run="realign.hrsa.weights:run",
            reads="models",
            corpus=False,
            stages=("backbone", "embedder"),
            gpus=True,
            memory_gb=8,
        ),
        Family(
            "survival",
            help="Compare two embedders' weights: how much is left of the update between their backbones.",
            run="realign.hrsa.survival:run",
            reads="models",
            corpus=False,
            origins=True,
            stages=("embedder",),
        ),
        Family(
            "behaviour",
            help="Compare what two models expect to come next: divergence by token, logit lens, stitching.",
            run="realign.hrsa.behaviour:run",
            heads=True,
            modes=("causal",),
            stages=("backbone",),
            gpus=True,
            memory_gb=16,
        ),
    )
}
