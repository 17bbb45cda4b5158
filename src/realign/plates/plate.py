"""Words in which a module of `drawing` declares the figures and tables ("plates") that it makes.

Such a module holds a tuple `PLATES` beside the code that draws them; `plates.catalogue` collects the
tuples of all modules. Nothing here imports anything, since drawings, the plan and the command line all do.
"""

from collections.abc import Iterable
from dataclasses import dataclass

LINEAR, NEAR, PROBE = ("linear",), ("neighbours",), ("probe",)
PRINTED = ("rotation", "overlap")  # the measures whose numbers the paper prints
LAYERS_SHOWN = (
    "Rows are layers of the base model, columns layers of the post-trained one; layer 0, the embedding "
    "output, is marked E."
)


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


def measures_of(*stages: str, families: tuple[str, ...] = (), controls: bool = False) -> Needs:
    """Measures of pairs of backbones, of embedders, or of checkpoints."""
    return Needs("measures", stages, families, controls)


@dataclass(frozen=True)
class Plate:
    """A figure or a table of the paper, or one of our own."""

    name: str
    title: str
    caption: str
    category: str  # where the report files it
    needs: tuple[Needs, ...] = ()
    pairs: str = "all"  # all of the study, the two of the main text, or those along series
    corpora: str = "all"  # all probe corpora, or the main one
    measure: str = ""
    stage: str = ""
    references: tuple[str, ...] = ()  # published tables that stand beside
    facts: tuple[str, ...] = ()  # parts of the study's description that are printed
    module: str = ""  # filled in by the catalogue

    @property
    def is_table(self) -> bool:
        """Whether it is a table rather than a figure."""
        return self.name.startswith("table_")

    @property
    def heading(self) -> str:
        """`Figure 3. Its title.`; the title alone for our own, which have no number."""
        numbered = self.name.rpartition("_")[2].isdigit()
        return f"{label_of(self.name)}. {self.title}." if numbered else f"{self.title}."


def label_of(name: str) -> str:
    """`Figure 3` for `figure_3`."""
    return name.replace("_", " ", 1).capitalize()


def named(plates: Iterable[Plate], name: str) -> Plate:
    """The plate of that name among a module's own."""
    return next(plate for plate in plates if plate.name == name)
