"""Labels of a corpus's texts, as classes or as numbers."""

import logging
from dataclasses import dataclass

import numpy as np

from realign.artifacts.command import UserError
from realign.hrsa.reading import Array
from realign.study.hrsa import ProbeTask

log = logging.getLogger(__name__)
MANY = 20  # labels that are all numbers, and more different ones than this, are likely a quantity


@dataclass(frozen=True)
class Target:
    """What a probe predicts for each text: a class's number, or a quantity."""

    values: Array
    classes: tuple[str, ...]  # none for a quantity

    @property
    def is_quantity(self) -> bool:
        """Whether it is predicted by ridge regression rather than by logistic regression."""
        return not self.classes


def as_target(labels: list[str], task: ProbeTask = "auto") -> Target:
    """Classes in alphabetical order, or numbers; by `auto` numbers where all are and there are many."""
    if task == "auto":
        task = _likely(labels)
    if task == "quantity":
        return Target(_numbers(labels), ())
    different = sorted(set(labels))
    number = {label: i for i, label in enumerate(different)}
    return Target(np.array([number[label] for label in labels]), tuple(different))


def _likely(labels: list[str]) -> ProbeTask:
    """What labels seem to be, which is said, since ids of classes are numbers too."""
    different = len(set(labels))
    found: ProbeTask = "classes"
    if not all(map(_is_number, labels)):
        why = "not all are numbers"
    elif different <= MANY:
        why = f"all are numbers, but no more than {MANY} differ"
    else:
        found, why = "quantity", f"all are numbers and more than {MANY} differ"
    log.info(
        "%d different labels are probed for as %s: %s (probe.task says otherwise)", different, found, why
    )
    return found


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _numbers(labels: list[str]) -> Array:
    """Labels as numbers; the first that is no finite one is named."""
    for row, label in enumerate(labels):
        if not _is_number(label) or not np.isfinite(float(label)):
            raise UserError(f"labels: that of row {row} is '{label}', which is no number to probe for")
    return np.array([float(label) for label in labels])
