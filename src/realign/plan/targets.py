"""The embedders that a study trains and the checkpoints that it keeps of them, in a fixed order."""

from realign.names import EmbedderId
from realign.study.study import Study


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
