"""Which backbones are compared with which, and what kind of post-training lies between them."""

from typing import Literal

from realign.study.base import Name, Section, setting
from realign.study.kinds import KINDS, Kind

Difference = Literal["depth", "width", "architecture"]


class Pair(Section):
    """Two backbones of one family: the base on the left, what post-training made of it right."""

    left: Name = setting(..., "The base backbone's name.")
    right: Name = setting(..., "The post-trained backbone's name.")
    kind: Kind = setting(..., f"What lies between the two: {', '.join(KINDS)} (a floor).")
    tags: tuple[Name, ...] = setting((), "Free words that claims can select by, e.g. prolonged.")
    allow: tuple[Difference, ...] = setting(
        (), "What the two sides may differ in; measures that need it equal are left out."
    )
    embed: bool = setting(
        True, "Train and compare embedders of both sides; off compares the backbones alone."
    )

    path: Literal["", "start", "step"] = setting(
        "",
        "What a series makes: a pair of its start with a backbone on it, or of two neighbours. Such pairs "
        "are measured on the main corpus; claims and plates of pairs leave them out.",
    )

    @property
    def name(self) -> str:
        """The pair's identity in paths and tables."""
        return f"{self.left}--vs--{self.right}"
