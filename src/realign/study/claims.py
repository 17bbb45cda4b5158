"""Claims: what a study asserts, each as tests with a statistic, a rule and a stated margin.

A claim holds when every one of its tests holds for every pair that it selects, fails when one of
them fails, and is undecided otherwise. A study can add claims of its own from the same parts.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import model_validator

from realign.measures.families import FAMILIES
from realign.measures.table import MEASURES, claimable
from realign.study.base import Name, Section, setting
from realign.study.errors import nearest
from realign.study.kinds import AnyKind

Statistic = Literal[
    "gain", "lift", "level", "change", "progress", "corpus_gap", "attention_gap", "readout_gap"
]  # fmt: skip
Rule = Literal["equivalent", "different", "above", "below", "above_floor", "below_floor"]


class ClaimTest(Section):
    """One test: a statistic of each selected pair, and the rule that judges it."""

    statistic: Statistic = setting(
        ...,
        "gain (benchmark, right minus left), lift (retrieval nDCG@10 of each side's embedder over "
        "the backbone itself, pooled alike, on the same queries), level (a measure), change "
        "(embedder minus backbone), progress (how much of the rise is made by a checkpoint), "
        "corpus_gap (second corpus minus main one), attention_gap (causal minus bidirectional), "
        "readout_gap (how a probe's accuracy changes on the model that it was not fitted on, either way).",
    )
    rule: Rule = setting(..., "How the statistic is judged against the threshold.")
    threshold: float = setting(
        0.0,
        "The margin of equivalence (points of 100 for gains and lifts), or the value to lie above or below.",
    )
    kind: AnyKind = setting("rlvr", "Pairs of this kind; any means all but controls.")
    tagged: tuple[Name, ...] = setting((), "Only pairs that carry all these tags.")
    untagged: tuple[Name, ...] = setting((), "Only pairs that carry none of these tags.")
    stage: Literal["backbone", "embedder"] = setting("backbone", "Whose states a level is read from.")
    measure: str = setting("", "The measure that a level, change or gap is read from, e.g. cka.")
    k: int = setting(10, "Neighbourhood size, for knn_overlap.", ge=1)
    attentions: tuple[Literal["causal", "bidirectional"], ...] = setting(
        ("bidirectional", "causal"), "Attention modes that are tested, each on its own."
    )
    corpora: Literal["main", "all"] = setting(
        "main",
        "Whether a level, change or readout gap is tested on the main corpus or on each (a readout gap: each "
        "whose labels tell some models apart).",
    )
    over: Literal["tasks", "seeds"] = setting(
        "tasks",
        "What a gain speaks of: other tasks like these (tasks and seeds are drawn from more, tasks of "
        "one type go together), or these very tasks with other seeds.",
    )
    benchmark: str = setting("", "Only this benchmark; empty means each benchmark on its own.")
    split: str = setting("test", "The probe's split.")
    by_step: int = setting(0, "The checkpoint by which progress is judged; 0 means the first declared.", ge=0)
    share: float = setting(0.8, "The share of the whole rise that progress asks for.", gt=0, lt=1)
    kept: float = setting(
        0.05,
        "Where a measure starts this near to 1 it has nowhere to rise: progress then asks that it has lost "
        "no more than this by the checkpoint.",
        gt=0,
        lt=1,
    )

    @property
    def read_family(self) -> str:
        """The family whose measures the test reads; none for tests of scores."""
        measure = "probe" if self.statistic == "readout_gap" else self.measure
        return MEASURES[measure].family if measure else ""

    @model_validator(mode="after")
    def _complete(self) -> "ClaimTest":
        if (
            self.statistic in ("level", "change", "progress", "corpus_gap", "attention_gap")
            and not self.measure
        ):
            raise ValueError(f"'{self.statistic}' needs a measure")
        if self.measure and self.measure not in claimable():
            known = f"is no measure{nearest(self.measure, claimable())}"
            why = "has no interval between two models" if self.measure in MEASURES else known
            raise ValueError(f"measure: '{self.measure}' {why}")
        if self.rule == "equivalent" and self.threshold <= 0:
            raise ValueError("an equivalence needs a threshold above 0: its margin")
        if self.rule.endswith("_floor") and (self.statistic, self.stage) != ("level", "embedder"):
            raise ValueError("floors exist for levels of embedders: the same backbone trained with two seeds")
        return self


class Claim(Section):
    """One assertion and the tests that decide it."""

    says: str = setting(..., "The assertion, in a sentence.")
    tests: tuple[ClaimTest, ...] = setting(..., "What must hold, for every selected pair.", min_length=1)

    def in_modes(self, main: str, others: Sequence[str]) -> Iterator[tuple[str, "Claim"]]:
        """The claim with its tests of backbones in the main attention mode, then those tests in each other.

        A failure in a mode beside the main one is a line of its own, and refutes no claim by itself. Measures
        that know no attention modes, such as those of weights, are tested once.
        """
        divided = [
            test.statistic in ("level", "corpus_gap", "readout_gap")
            and test.stage == "backbone"
            and main in test.attentions
            and FAMILIES[test.read_family].attention
            for test in self.tests
        ]
        for mode in (main, *others):
            tests = tuple(
                test.model_copy(update={"attentions": (mode,)}) if of_backbones else test
                for test, of_backbones in zip(self.tests, divided, strict=True)
                if mode == main or (of_backbones and mode in test.attentions)
            )
            if mode == main:
                yield "", self.model_copy(update={"tests": tests})
            elif tests:
                says = f"{self.says} (Backbones with {mode} attention.)"
                yield mode, self.model_copy(update={"says": says, "tests": tests})


HALF = 0.5  # of the rotation's energy: whether more of it lies on a dimension's own counterpart, or elsewhere
PAPER_CLAIMS: dict[str, Claim] = {
    "null_effect": Claim(
        says="Tuning a backbone by RLVR leaves the benchmark scores of its embedder equivalent.",
        tests=(ClaimTest(statistic="gain", rule="equivalent", threshold=1.0),),
    ),
    "null_effect_on_these_tasks": Claim(
        says="On these benchmarks' own tasks, other seeds would show the same null effect.",
        tests=(ClaimTest(statistic="gain", over="seeds", rule="equivalent", threshold=1.0),),
    ),
    "global_geometry_preserved": Claim(
        says="RLVR preserves the global geometry of the representations, and contrastive training keeps it.",
        tests=tuple(
            ClaimTest(statistic="level", stage=stage, measure="cka_debiased", rule="above", threshold=0.9)
            for stage in ("backbone", "embedder")
        ),
    ),
    "local_geometry_reorganised": Claim(
        says="RLVR reorganises local geometry: neighbourhoods overlap well below one.",
        tests=(ClaimTest(statistic="level", measure="knn_overlap", rule="below", threshold=0.8),),
    ),
    "local_geometry_not_restored": Claim(
        says="Contrastive training does not restore the neighbourhoods that RLVR reorganised.",
        tests=(
            ClaimTest(statistic="change", measure="knn_overlap", rule="below", threshold=0.05),
            ClaimTest(statistic="level", stage="embedder", measure="knn_overlap", rule="below_floor"),
        ),
    ),
    "basis_drift_only_if_prolonged": Claim(
        says="The coordinate basis drifts under prolonged RLVR, on every corpus, and under no other.",
        tests=(
            ClaimTest(
                statistic="level",
                measure="basis_kept",
                tagged=("prolonged",),
                corpora="all",
                rule="below",
                threshold=HALF,
            ),
            ClaimTest(
                statistic="level",
                measure="basis_kept",
                untagged=("prolonged",),
                corpora="all",
                rule="above",
                threshold=HALF,
            ),
        ),
    ),
    "basis_drift_reversed": Claim(
        says="Contrastive training turns the drifted basis of prolonged RLVR back, and most of it is kept.",
        tests=(
            ClaimTest(statistic="change", measure="basis_kept", tagged=("prolonged",), rule="above"),
            ClaimTest(
                statistic="level",
                stage="embedder",
                measure="basis_kept",
                tagged=("prolonged",),
                rule="above",
                threshold=HALF,
            ),
        ),
    ),
    "linear_readout_preserved": Claim(
        says="A linear probe fitted on the base or on the RLVR model reads the other equally well.",
        tests=tuple(
            ClaimTest(statistic="readout_gap", stage=stage, corpora="all", rule="equivalent", threshold=0.05)
            for stage in ("backbone", "embedder")
        ),
    ),
    "sft_restructures": Claim(
        says="Supervised fine-tuning restructures the representations: basis, geometry and readout.",
        tests=tuple(
            ClaimTest(kind="sft", untagged=("unpublished",), rule="below", **test)
            for test in (
                {"statistic": "level", "measure": "basis_kept", "threshold": HALF},
                {"statistic": "level", "measure": "cka_debiased", "threshold": 0.9},
                {"statistic": "level", "measure": "knn_overlap", "threshold": 0.3},
                {"statistic": "readout_gap", "threshold": -0.05},
            )
        ),
    ),
    "realignment_is_fast": Claim(
        says="Contrastive training realigns a pair of prolonged RLVR early: most of the rise comes by the "
        "first checkpoint.",
        tests=tuple(
            ClaimTest(
                statistic="progress",
                measure=measure,
                rule="above",
                tagged=("prolonged",),
                attentions=("bidirectional",),
            )
            for measure in ("basis_kept", "cka_debiased")
        ),
    ),
}

PAPER_TENSIONS: dict[str, Claim] = {
    "tension_scores_identical": Claim(
        says="Scores are identical, not merely close: they differ by less than a quarter of a point.",
        tests=(ClaimTest(statistic="gain", over="seeds", rule="equivalent", threshold=0.25),),
    ),
    "tension_sft_costs_scores": Claim(
        says="SFT costs its embedder benchmark scores, whichever SFT pair and benchmark is looked at.",
        tests=(ClaimTest(statistic="gain", kind="sft", rule="below"),),
    ),
    "tension_realigned_beyond_one_pair": Claim(
        says="Contrastive training realigns the basis of RLVR pairs that were not trained for long, too.",
        tests=(ClaimTest(statistic="change", measure="basis_kept", untagged=("prolonged",), rule="above"),),
    ),
    "tension_nearly_a_permutation": Claim(
        says="Even after prolonged RLVR the best rotation is nearly a permutation.",
        tests=(
            ClaimTest(
                statistic="level", measure="procrustes", tagged=("prolonged",), rule="above", threshold=0.9
            ),
        ),
    ),
    "tension_damage_on_any_text": Claim(
        says="What SFT does to the basis does not depend on the text it is measured on.",
        tests=(
            ClaimTest(
                statistic="corpus_gap",
                kind="sft",
                untagged=("unpublished",),
                measure="basis_kept",
                rule="equivalent",
                threshold=0.05,
            ),
        ),
    ),
    "tension_any_attention": Claim(
        says="The similarity of backbones does not depend on the attention mode it is measured in.",
        tests=(
            ClaimTest(
                statistic="attention_gap",
                kind="any",
                measure="cka_debiased",
                rule="equivalent",
                threshold=0.05,
            ),
        ),
    ),
    "tension_irreversible_beyond_noise": Claim(
        says="Neighbourhoods differ by more than two contrastive seeds of one backbone differ.",
        tests=(ClaimTest(statistic="level", stage="embedder", measure="knn_overlap", rule="below_floor"),),
    ),
}


# What others found of RLVR and SFT, each with its source. Margins that a source does not state are ours, and
# so is all of literature_update_survives: it asks what contrastive training leaves of such an update.
LITERATURE_CLAIMS: dict[str, Claim] = {
    "literature_update_sparse": Claim(
        says="RLVR leaves seven weights in ten as they are or more, and SFT fewer (arXiv 2505.11711).",
        tests=(
            ClaimTest(statistic="level", measure="update_sparsity", rule="above", threshold=0.7),
            ClaimTest(
                statistic="level",
                kind="sft",
                untagged=("unpublished",),
                measure="update_sparsity",
                rule="below",
                threshold=0.7,
            ),
        ),
    ),
    "literature_off_principals": Claim(
        says="RLVR's update has less of its energy in the principal directions of the weights than chance "
        "gives (arXiv 2511.08567).",
        tests=(ClaimTest(statistic="level", measure="principal_energy", rule="below", threshold=1.0),),
    ),
    "literature_near_in_kl": Claim(
        says="On plain text RLVR stays within 0.1 nats of its base on average over tokens, and SFT does not "
        "(after arXiv 2509.04259, which compares at equal gain; the pairs' gains are not held equal here).",
        tests=(
            ClaimTest(
                statistic="level",
                measure="token_kl",
                attentions=("causal",),
                rule="below",
                threshold=0.1,
            ),
            ClaimTest(
                statistic="level",
                kind="sft",
                untagged=("unpublished",),
                measure="token_kl",
                attentions=("causal",),
                rule="above",
                threshold=0.1,
            ),
        ),
    ),
    "literature_update_survives": Claim(
        says="Contrastive training leaves more than half of RLVR's update in the weights; "
        "realignment would predict that it does not.",
        tests=(
            ClaimTest(statistic="level", stage="embedder", measure="survival", rule="above", threshold=0.5),
        ),
    ),
}


class Claims(Section):
    """What is tested, at what level, and how strictly."""

    alpha: float = setting(
        0.05, "Level of every test; for failing, after Holm's correction within a claim.", gt=0, lt=0.5
    )
    paper: bool = setting(True, "Test the paper's claims.")
    tensions: bool = setting(False, "Also test the points where the paper's own numbers disagree.")
    literature: bool = setting(
        False,
        "Also test what others found of the weights and the behaviour of RLVR and SFT, and a claim of our "
        "own on what contrastive training leaves of RLVR's update.",
    )
    own: dict[Name, Claim] = setting(
        {}, "Further claims by name; one with the name of a built-in replaces it."
    )

    def all(self) -> dict[str, Claim]:
        """Every claim that is tested, by name."""
        built_in = (PAPER_CLAIMS if self.paper else {}) | (PAPER_TENSIONS if self.tensions else {})
        built_in |= LITERATURE_CLAIMS if self.literature else {}
        return {**built_in, **self.own}

    def problems_in(self, _: object) -> Iterator[str]:
        """Names that tests in a further attention mode need for themselves."""
        stated, modes = self.all(), ("bidirectional", "causal")
        for name, claim in stated.items():
            for main, other in (modes, modes[::-1]):
                further = [f"{name}_{mode}" for mode, _ in claim.in_modes(main, [other]) if mode]
                if further and further[0] in stated:
                    why = f"the tests of '{name}' with {other} attention have this name; choose another"
                    yield f"claims.own.{further[0]}: {why}"
