"""What a study amounts to: its models and its comparisons, in a fixed order.

The workflow's targets and the tidy results' `study.json` both come from here, so that what is
planned and what is drawn cannot differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from realign.study.kinds import Kind
from realign.study.names import EmbedderId
from realign.study.study import Study


@dataclass(frozen=True)
class Comparison:
    """Two models whose states are compared, and what the comparison stands for."""

    left: str
    right: str
    stage: str  # backbone, embedder or checkpoint
    pair: str
    kind: Kind
    tags: tuple[str, ...] = ()
    recipe: str | None = None
    step: int | None = None
    seed_left: int | None = None
    seed_right: int | None = None
    floor: str | None = None  # the right side is the left one made unlike: shuffled or rotated

    @property
    def name(self) -> str:
        """The comparison's identity in paths."""
        return f"{self.left}--vs--{self.floor or self.right}"


def embedded_backbones(study: Study) -> list[str]:
    """The backbones that embedders are trained from: every side of a pair that asks for it."""
    names = [name for pair in study.pairs if pair.embed for name in (pair.left, pair.right)]
    return list(dict.fromkeys(names))


def trains(study: Study, recipe: str, backbone: str) -> bool:
    """Whether a recipe trains an embedder from a backbone: from all of them, or from those it names."""
    chosen = study.recipes[recipe].backbones
    return not chosen or backbone in chosen


def seeds_of(study: Study, recipe: str) -> tuple[int, ...]:
    """The seeds that a recipe's trainings are repeated with: its own, or the study's."""
    return study.recipes[recipe].seeds or study.study.seeds


def embedders(study: Study) -> list[EmbedderId]:
    """Every contrastive training of the study: backbone × recipe × seed."""
    return [
        EmbedderId(backbone, recipe, seed)
        for backbone in embedded_backbones(study)
        for recipe in study.recipes
        if trains(study, recipe, backbone)
        for seed in seeds_of(study, recipe)
    ]


def checkpoints(study: Study) -> list[EmbedderId]:
    """Every declared checkpoint of those trainings."""
    return [
        EmbedderId(run.backbone, run.recipe, run.seed, step)
        for run in embedders(study)
        for step in study.recipes[run.recipe].checkpoints
    ]


def backbone_comparisons(study: Study) -> Iterator[Comparison]:
    """One comparison for each pair of backbones."""
    for pair in study.pairs:
        yield Comparison(pair.left, pair.right, "backbone", pair.name, pair.kind, pair.tags)


def embedder_comparisons(study: Study) -> Iterator[Comparison]:
    """Each pair's embedders, seed by seed."""
    for pair, recipe, seed in _trained(study):
        left, right = (str(EmbedderId(b, recipe, seed)) for b in (pair.left, pair.right))
        yield Comparison(left, right, "embedder", pair.name, pair.kind, pair.tags, recipe, None, seed, seed)


def checkpoint_comparisons(study: Study) -> Iterator[Comparison]:
    """Each pair's declared checkpoints, for the first seed."""
    for pair, recipe, seed in _trained(study):
        if seed != seeds_of(study, recipe)[0]:
            continue
        for step in study.recipes[recipe].checkpoints:
            left, right = (str(EmbedderId(b, recipe, seed, step)) for b in (pair.left, pair.right))
            yield Comparison(
                left, right, "checkpoint", pair.name, pair.kind, pair.tags, recipe, step, seed, seed
            )


def seed_controls(study: Study) -> Iterator[Comparison]:
    """The floor of training noise: one backbone, two contrastive seeds."""
    for recipe in study.recipes:
        if len(seeds_of(study, recipe)) < 2:
            continue
        first, second = seeds_of(study, recipe)[:2]
        for backbone in embedded_backbones(study):
            if not trains(study, recipe, backbone):
                continue
            left, right = (str(EmbedderId(backbone, recipe, s)) for s in (first, second))
            yield Comparison(
                left,
                right,
                "embedder",
                f"{backbone}-seeds",
                "control",
                ("seeds",),
                recipe,
                None,
                first,
                second,
            )


def _trained(study: Study) -> Iterator[tuple]:
    for pair in study.pairs:
        for recipe in study.recipes:
            if pair.embed and all(trains(study, recipe, side) for side in (pair.left, pair.right)):
                for seed in seeds_of(study, recipe):
                    yield pair, recipe, seed
