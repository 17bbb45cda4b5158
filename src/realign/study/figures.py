"""How figures and tables look and what they show: one style, one view, and overrides for each.

A figure's job receives the style and its own view, so a change to one figure's settings redraws
that figure alone.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, create_model

from realign.commands import STAGES
from realign.study.base import Name, Section, setting
from realign.study.errors import nearest
from realign.study.kinds import KINDS, Colour

PLATE = r"^(figure|table)_[a-z0-9]+$"


_BY_KIND: dict[str, Any] = {n: (Colour, setting(kind.colour, kind.description)) for n, kind in KINDS.items()}
_KindColours: Any = create_model("_KindColours", __base__=Section, **_BY_KIND)


class Palette(_KindColours):
    """One colour for each role; the defaults differ in lightness too, so they survive greyscale."""

    base: Colour = setting("#2B3A4E", "Base backbones and their embedders.")


class Style(Section):
    """The style sheet that all figures share."""

    palette: Palette = Field(default_factory=Palette, description="One palette by role.")
    heat: Literal["cividis", "viridis", "gray", "magma"] = setting(
        "cividis", "Colour map of heatmaps; all choices rise evenly in lightness."
    )
    font_size: float = setting(8.0, "Size of ordinary text in figures.", "pt", gt=3, le=24)
    width: float = setting(180.0, "Width of a full-width figure.", "mm", gt=60, le=600)
    dpi: int = setting(200, "Resolution of the PNG.", "dots per inch", ge=50, le=1200)


class View(Section):
    """What a figure or table shows."""

    pairs: tuple[str, ...] = setting((), "Pairs by name (left--vs--right); none means all of the study.")
    main_sft: str = setting("", "The SFT pair of the main text; empty means the study's first.")
    main_rlvr: str = setting(
        "", "The RLVR pair of the main text; empty means the first tagged prolonged, else the first."
    )
    corpora: tuple[Name, ...] = setting((), "Probe corpora, the main one first; none means all.")
    attention: Literal["causal", "bidirectional"] = setting(
        "bidirectional", "Attention mode of the states that are shown."
    )
    recipe: str = setting("", "The training recipe whose embedders are shown; empty means the first.")
    preset: str = setting("", "Rows of this preset only; empty means the study's own, not the published one.")
    first_layer: Literal[0, 1] = setting(
        1, "First layer that means over layers count: 1, or 0 to count the embedding output as published."
    )
    neighbours: tuple[int, ...] = setting((), "Neighbourhood sizes k; none means all that were measured.")
    probe_corpus: str = setting(
        "", "The corpus whose labels probes are shown for; empty means the first that tells some pair apart."
    )
    probe_task: str = setting("", "The probe's task; empty means the first that was measured.")
    heat_from: float = setting(
        0.0, "The value at the dark end of heatmaps; lower ones are marked.", ge=-1, lt=1
    )
    margin: float = setting(
        1.0, "Half width of the band of equivalence around no gain.", "points of 100", gt=0
    )
    paper: bool = setting(True, "Show the published value beside this study's where the pair is the same.")


class Figures(Section):
    """The look and the content of all figures and tables."""

    style: Style = Field(default_factory=Style, description="The style sheet.")
    view: View = Field(default_factory=View, description="What all figures and tables show.")
    plates: dict[Annotated[str, StringConstraints(pattern=PLATE)], dict[str, Any]] = setting(
        {}, "Settings of `view` for one figure or table by its name, e.g. figure_10: {neighbours: [10]}."
    )

    def view_of(self, plate: str) -> View:
        """The view of one figure or table: the common one with its own settings laid over it."""
        return View.model_validate(self.view.as_slice() | self.plates.get(plate, {}))

    def model_post_init(self, _: Any) -> None:
        """Refuse overrides that no view knows, when the study is read rather than when it is drawn."""
        for plate in self.plates:
            self.view_of(plate)

    def problems_in(self, study: Any) -> Iterator[str]:
        """Plates that do not exist; pairs, corpora and recipes that the study does not have."""
        plates = [name for name in STAGES if re.match(PLATE, name)]
        for name in set(self.plates) - set(plates):
            yield f"figures.plates.{name}: no figure or table has this name{nearest(name, plates)}"
        known = {
            "pairs": [p.name for p in study.pairs],
            "corpora": list(study.text.probes),
            "recipe": list(study.recipes),
            "probe_corpus": list(study.text.probes),
        }
        known |= {"main_sft": known["pairs"], "main_rlvr": known["pairs"]}
        for where, view in [("view", self.view), *((f"plates.{n}", self.view_of(n)) for n in self.plates)]:
            for key, names in known.items():
                given = getattr(view, key)
                for name in (given,) if isinstance(given, str) else given:
                    if name and name not in names:
                        yield f"figures.{where}.{key}: the study has no '{name}'{nearest(name, names)}"
