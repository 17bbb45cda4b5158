"""The kinds of pairs: which ones there are, and how figures and tables show each.

An entry of `KINDS` is all that a new kind needs. Settings that name a kind, the palette and the manual
read this table; stages get what they show of it in their settings.
"""

from typing import Annotated

from realign.study.base import Section, formed, setting
from realign.study.errors import as_choice, one_of

Colour = Annotated[str, formed(r"^#[0-9a-fA-F]{6}$", "a colour, such as '#0077BB' (in quotes)")]


class PairKind(Section):
    """What lies between the two sides of a pair, and how that is shown."""

    label: str = setting(..., "Its name in figures, tables and the report.")
    description: str = setting(..., "A sentence about it.")
    colour: Colour = setting(..., "Its colour, unless the study's palette has another.")
    mark: str = setting(..., "Its marker in scatter plots, by matplotlib's names.")
    shaded: bool = setting(False, "Whether panels of such pairs have a background of their own.")
    control: bool = setting(False, "Whether such pairs are floors, which plates of pairs leave out.")


KINDS: dict[str, PairKind] = {
    "rlvr": PairKind(
        label="RLVR", description="Reinforcement learning with verifiable rewards.",
        colour="#0077BB", mark="s",
    ),
    "sft": PairKind(
        label="SFT", description="Supervised fine-tuning, as a rule on worked solutions.",
        colour="#EE8844", mark="^", shaded=True,
    ),
    "dpo": PairKind(
        label="DPO", description="Direct preference optimisation, or another way to learn from preferences.",
        colour="#773989", mark="D",
    ),
    "instruct": PairKind(
        label="Instruct", description="Instruction tuning of any recipe, such as a published chat model.",
        colour="#189B8D", mark="v",
    ),
    "distilled": PairKind(
        label="Distilled", description="Training on another model's answers or probabilities.",
        colour="#44F880", mark="p",
    ),
    "merge": PairKind(
        label="Merge", description="An average, or another combination, of several models' weights.",
        colour="#BB2A1C", mark="*",
    ),
    "other": PairKind(
        label="Other", description="Any other change of the base.",
        colour="#210B81", mark="P",
    ),
    "control": PairKind(
        label="Control", description="Nothing that should matter, or random weights: a floor.",
        colour="#BBBBBB", mark="x", control=True,
    ),
}  # fmt: skip


def is_control(kind: str) -> bool:
    """Whether pairs of a kind are floors."""
    return KINDS[kind].control


Kind = Annotated[str, one_of(KINDS, "kind of pair"), as_choice(KINDS)]
AnyKind = Annotated[str, one_of([*KINDS, "any"], "kind of pair"), as_choice([*KINDS, "any"])]
