"""What a recipe's losses use of the datasets: which loss is whose, and which datasets it names."""

from realign.study.loss import Loss
from realign.study.recipe import Recipe


def loss_of(recipe: Recipe, dataset: str) -> Loss:
    """The loss of a dataset's batches."""
    return recipe.dataset_losses.get(dataset, recipe.loss)


def uses_scores(loss: Loss) -> bool:
    """Whether rows must bring a teacher's scores."""
    return loss.distillation is not None and loss.distillation.teacher == "scores"


def named_datasets(recipe: Recipe) -> set[str]:
    """The datasets that a recipe names, less those of weight 0: a study does not hand these in."""
    weights = recipe.batches.weights
    named = {*recipe.datasets, *weights, *recipe.dataset_losses}
    return {name for name in named if weights.get(name, 1) > 0}
