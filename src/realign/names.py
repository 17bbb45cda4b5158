"""How models are named in paths, tables and wildcards.

A backbone is its own name. An embedder is `backbone+recipe+s<seed>`, and a checkpoint of its
training `backbone+recipe+s<seed>+step<step>`: names never hold a '+', so this reads back.
"""

import re
from dataclasses import dataclass
from typing import Any

_EMBEDDER = re.compile(r"^(?P<backbone>[^+]+)\+(?P<recipe>[^+]+)\+s(?P<seed>\d+)(?:\+step(?P<step>\d+))?$")


@dataclass(frozen=True, order=True)
class EmbedderId:
    """One contrastive training's outcome, or a declared checkpoint on the way to it."""

    backbone: str
    recipe: str
    seed: int
    step: int | None = None

    def __str__(self) -> str:
        name = f"{self.backbone}+{self.recipe}+s{self.seed}"
        return name if self.step is None else f"{name}+step{self.step}"

    @property
    def run(self) -> "EmbedderId":
        """The training that this embedder or checkpoint comes from."""
        return EmbedderId(self.backbone, self.recipe, self.seed)

    @classmethod
    def parse(cls, name: str) -> "EmbedderId":
        """The identity that a path or a table's cell spells out."""
        found = _EMBEDDER.match(name)
        if not found:
            raise ValueError(f"{name!r} names no embedder; expected backbone+recipe+s<seed>")
        step = found["step"]
        return cls(found["backbone"], found["recipe"], int(found["seed"]), int(step) if step else None)


def is_embedder(model: str) -> bool:
    """Whether a model's name is an embedder's rather than a backbone's."""
    return "+" in model


def model_columns(model: str) -> dict[str, Any]:
    """A model's name taken apart, as the tidy tables spell it."""
    if not is_embedder(model):
        return {"embedder": model, "backbone": model, "recipe": None, "seed": None, "step": None}
    parsed = EmbedderId.parse(model)
    return {
        "embedder": model,
        "backbone": parsed.backbone,
        "recipe": parsed.recipe,
        "seed": parsed.seed,
        "step": parsed.step,
    }
