"""What a recipe's losses use of the datasets: which loss is whose, and what it needs beside the texts.

Recipes compute some of this too, to check a study. Fingerprints leave that code out, so a training uses this.
"""

from collections.abc import Iterable

from realign.study.loss import Loss
from realign.study.recipe import Recipe


def loss_of(recipe: Recipe, dataset: str) -> Loss:
    """The loss of a dataset's batches."""
    return recipe.dataset_losses.get(dataset, recipe.loss)


def uses_scores(loss: Loss) -> bool:
    """Whether rows must bring a teacher's scores."""
    return loss.distillation is not None and loss.distillation.teacher == "scores"


def uses_guide(loss: Loss) -> bool:
    """Whether a guide model has to be there."""
    distilled = loss.distillation is not None and loss.distillation.teacher == "guide"
    return loss.guide is not None or distilled


def guided(recipe: Recipe, datasets: Iterable[str]) -> str:
    """The setting that needs a guide model to train on these datasets, or nothing."""
    if uses_guide(recipe.loss):
        return "loss"
    own = (name for name in sorted(datasets) if uses_guide(loss_of(recipe, name)))
    return next((f"dataset_losses.{name}" for name in own), "")


def trained_on(recipe: Recipe, dataset: str) -> bool:
    """Whether a recipe trains on a dataset that it is given."""
    return (not recipe.datasets or dataset in recipe.datasets) and recipe.batches.weights.get(dataset, 1) > 0


def named_datasets(recipe: Recipe) -> set[str]:
    """The datasets that a recipe names, less those of weight 0: a study does not hand these in."""
    weights = recipe.batches.weights
    named = {*recipe.datasets, *weights, *recipe.dataset_losses}
    return {name for name in named if weights.get(name, 1) > 0}
