"""Labels of a corpus's texts, as classes or as numbers."""

import json
from dataclasses import dataclass
from pathlib import Path

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


def read_labels(path: Path, text_index: Array) -> list[str]:
    """The labels of some lines of a corpus."""
    wanted = set(map(int, text_index))
    found: dict[int, str] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number not in wanted:
                continue
            label = json.loads(line).get("label")
            if label is None:
                raise UserError(f"{path}:{number + 1}: no 'label' to probe for")
            found[number] = str(label)
    if missing := sorted(wanted - set(found)):
        raise UserError(f"{path}: the states hold text {missing[0]}, and the corpus has no such line")
    return [found[int(t)] for t in text_index]


def as_target(labels: list[str]) -> Target:
    """Classes in alphabetical order, or numbers where all labels are numbers and there are many."""
    different = sorted(set(labels))
    if len(different) > MANY:
        try:
            return Target(np.array([float(label) for label in labels]), ())
        except ValueError:
            pass  # not a quantity: many classes
    number = {label: i for i, label in enumerate(different)}
    return Target(np.array([number[label] for label in labels]), tuple(different))
