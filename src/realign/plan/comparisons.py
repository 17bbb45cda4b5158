"""Which measures a study makes: comparison × corpus × attention mode × family, one file each.

The workflow's targets and the description of the tidy results both come from here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from realign.plan.targets import (
    Comparison,
    backbone_comparisons,
    checkpoint_comparisons,
    embedder_comparisons,
    seed_controls,
)
from realign.study.hrsa import Context, Family
from realign.study.kinds import is_control
from realign.study.study import Study


@dataclass(frozen=True)
class Unit:
    """One file of measures: what is compared, on which states, by which family."""

    comparison: Comparison
    corpus: str
    attention: str
    family: Family

    @property
    def path(self) -> str:
        """Where it lies, below the folder of tidy results."""
        return f"measures/{self.comparison.name}/{self.corpus}+{self.attention}.{self.family}.parquet"

    def context(self, study: Study) -> Context:
        """What its rows say of the comparison."""
        c = self.comparison
        return Context(
            study=study.study.name,
            stage=c.stage,  # type: ignore[arg-type]
            step=c.step,
            recipe=c.recipe,
            pair=c.pair,
            kind=c.kind,
            tags=c.tags,
            corpus=self.corpus,
            seed_left=c.seed_left,
            seed_right=c.seed_right,
            floor=c.floor,  # type: ignore[arg-type]
        )


def measured_corpora(study: Study) -> list[str]:
    """The probe corpora whose states are compared, the main one first."""
    return list(study.hrsa.corpora or study.text.probes)


def is_labelled(study: Study, corpus: str) -> bool:
    """Whether a corpus has labels for probes."""
    probe = study.text.probes[corpus]
    return probe.embedded is not None or probe.label is not None


def has_tokens(study: Study, corpus: str) -> bool:
    """Whether states of a corpus's tokens are kept, and not of its whole texts alone."""
    return study.states.selection(corpus).count != 0


def floor_comparisons(study: Study) -> Iterator[Comparison]:
    """Each base backbone with itself made unlike."""
    bases = dict.fromkeys(pair.left for pair in study.pairs if not is_control(pair.kind))
    for base in bases:
        for floor in study.hrsa.floors:
            yield Comparison(base, base, "backbone", f"{base}-{floor}", "control", (floor,), floor=floor)


def measure_units(study: Study) -> list[Unit]:
    """Every file of measures that a study makes, in a fixed order.

    Backbones are compared on all corpora in all asked attention modes, embedders on all corpora in
    their own mode; checkpoints and controls on the main corpus, backbones there in the first mode.
    """
    corpora, modes = measured_corpora(study), study.hrsa.backbone_attention
    units = []
    for comparison in _comparisons(study):
        whole = comparison.stage != "checkpoint" and not is_control(comparison.kind)
        if comparison.stage == "backbone":
            attentions = modes if whole else modes[:1]
        else:
            attentions = (study.embedder.attention,)
        for corpus in corpora if whole else corpora[:1]:
            for attention in attentions:
                units += [Unit(comparison, corpus, attention, f) for f in _families(study, corpus)]
    return units


def _families(study: Study, corpus: str) -> list[Family]:
    """The families that a corpus can serve: probes need labels, all others tokens."""
    return [
        family
        for family in study.hrsa.families
        if (is_labelled(study, corpus) if family == "probe" else has_tokens(study, corpus))
    ]


def _comparisons(study: Study) -> Iterator[Comparison]:
    if not study.hrsa.families:
        return
    yield from backbone_comparisons(study)
    yield from floor_comparisons(study)
    yield from embedder_comparisons(study)
    yield from checkpoint_comparisons(study)
    yield from seed_controls(study)
