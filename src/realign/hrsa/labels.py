"""Labels of a corpus's texts, as classes or as numbers."""

from dataclasses import dataclass

import numpy as np

from realign.artifacts.command import UserError
from realign.hrsa.reading import Array

MANY = 20  # labels that are all numbers, and more different ones than this, are a quantity


@dataclass(frozen=True)
class Target:
    """What a probe predicts for each text: a class's number, or a quantity."""

    values: Array
    classes: tuple[str, ...]  # none for a quantity

    @property
    def is_quantity(self) -> bool:
        """Whether it is predicted by ridge regression rather than by logistic regression."""
        return not self.classes


def as_target(labels: list[str]) -> Target:
    """Classes in alphabetical order, or numbers where all labels are numbers and there are many."""
    different = sorted(set(labels))
    if len(different) > MANY:
        try:
            values = np.array([float(label) for label in labels])
        except ValueError:
            pass  # not a quantity: many classes
        else:
            if not np.isfinite(values).all():
                at = int(np.flatnonzero(~np.isfinite(values))[0])
                raise UserError(
                    f"labels: that of row {at} is '{labels[at]}', which is no number to probe for"
                )
            return Target(values, ())
    number = {label: i for i, label in enumerate(different)}
    return Target(np.array([number[label] for label in labels]), tuple(different))
