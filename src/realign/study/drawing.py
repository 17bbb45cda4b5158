"""Settings of the stages that read tidy results: draw a plate, judge the claims, write the report."""

from typing import Any

from pydantic import Field

from realign.study.base import Section, setting
from realign.study.claims import Claim
from realign.study.description import PairEntry
from realign.study.figures import Style, View
from realign.study.kinds import KINDS, PairKind, is_control

CONTROLS = tuple(filter(is_control, KINDS))


class DrawPlate(Section):
    """What one figure or table is asked to show; nothing in it concerns any other."""

    plate: str = setting(..., "The figure's or table's name.")
    study: str = setting("", "The study's name.")
    synthetic: bool = setting(False, "Whether the results are made up, which is then said on the page.")
    style: Style = Field(default_factory=Style, description="The style sheet.")
    view: View = Field(default_factory=View, description="What is shown, with no choice left open.")
    pairs: tuple[PairEntry, ...] = setting((), "The pairs that are shown.")
    kinds: dict[str, PairKind] = setting(KINDS, "How each kind of pair is shown.")
    untrained: tuple[str, ...] = setting((), "The backbones with random weights, where floors are shown.")
    labels: dict[str, str] = setting({}, "Names of backbones and corpora as people read them.")
    known: dict[str, str] = setting(
        {}, "The names by which published values are found: each backbone's hub id, or its label."
    )
    facts: dict[str, Any] = setting({}, "Settings of the study that the plate prints.")


class JudgeClaims(Section):
    """What the claims are tested on."""

    study: str = setting("", "The study's name.")
    alpha: float = setting(0.05, "Level of every test.", gt=0, lt=0.5)
    claims: dict[str, Claim] = setting({}, "The claims by name.")
    order: tuple[str, ...] = setting((), "The names of all claims in the order of the page.")
    pairs: tuple[PairEntry, ...] = setting((), "The study's pairs.")
    controls: tuple[str, ...] = setting(CONTROLS, "Kinds of pairs that are floors, which `any` leaves out.")
    untrained: tuple[str, ...] = setting((), "The backbones with random weights.")
    view: View = Field(default_factory=View, description="Recipe, corpora and preset that claims read.")


class PlateText(Section):
    """The words under a figure or over a table."""

    name: str = setting(..., "`figure_3`, `table_before`.")
    heading: str = setting(..., "`Figure 3. Its title.`")
    title: str = setting(..., "Its title.")
    caption: str = setting(..., "Its caption.")


class WriteReport(Section):
    """The words of the report beyond the results that it is given."""

    plates: tuple[PlateText, ...] = setting((), "The figures and tables that the study makes, drawn or not.")
    controls: tuple[str, ...] = setting(CONTROLS, "Kinds of pairs that are floors, which are counted apart.")
