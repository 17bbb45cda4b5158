"""The held-out set: its loss, and how high each query's positive stands among all its passages."""

from typing import Any

import numpy as np

from realign.engine.distributed import World
from realign.study.loss import Loss
from realign.training.data import TrainingData, text_number
from realign.training.loss import contrastive_loss
from realign.training.step import ContrastiveStep, evaluating


def ndcg_at(k: int, scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Each row's nDCG@k with binary relevance; equal scores stand in the order of their columns."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    gains = np.take_along_axis(relevant, order, axis=1).astype(np.float64)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best = np.array([discounts[: min(k, int(n))].sum() for n in relevant.sum(axis=1)])
    found = (gains * discounts[: gains.shape[1]]).sum(axis=1)
    return np.divide(found, best, out=np.zeros_like(found), where=best > 0)


class Validation:
    """Scores the held-out set in the middle of a training; all processes take part."""

    def __init__(self, data: TrainingData, step: ContrastiveStep, world: World, loss: Loss):
        self.step, self.world, self.loss = step, world, loss
        self.batch, rows, drawn = data.validation(world)
        numbers = [text_number(text) for d in drawn for text in d.passages]
        _, self._first = np.unique(numbers, return_index=True)
        self._first.sort()
        columns = np.array(numbers)[self._first]
        self._relevant = np.stack([np.isin(columns, [text_number(p) for p in row.positives]) for row in rows])

    def scores(self, engine: Any) -> dict[str, float]:
        """Loss and nDCG@10 of the held-out set with the parameters as they are."""
        with evaluating(engine):
            queries, passages, labels = self.step.vectors_of(self.batch)
            loss = contrastive_loss(queries, passages, self.loss, labels).loss.item()
        cosines = (queries.float() @ passages.float().T).cpu().numpy()[:, self._first]
        return {"val_loss": loss, "val_ndcg_at_10": float(ndcg_at(10, cosines, self._relevant).mean())}
