"""Statistics of tensors as sums, and the rows that they make: whole, by kind, layer, both, and tensor."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from realign.hrsa.folders import LeftOut, Shared
from realign.hrsa.groups import Groups, Interval
from realign.hrsa.reading import Array
from realign.hrsa.rows import Rows
from realign.measures.registry import statistic_of
from realign.seeds import derive_seed
from realign.study.hrsa import ComparingModels

log = logging.getLogger(__name__)


class Ratio(NamedTuple):
    """A number as a ratio of sums, which add up over tensors. Below 1, that is their mean.

    Of two updates it is their product above, with the square of one below and of the other beside.
    """

    above: float
    below: float = 1.0
    beside: float = 1.0


class Sums:
    """Each statistic as a ratio of sums by tensor, and its rows: whole, by kind, layer, both, tensor."""

    def __init__(self, tensors: Sequence[Shared], left_out: Sequence[LeftOut]):
        self.tensors, self.left_out = tensors, left_out
        for name, why, size in left_out:
            log.warning("left out: %s (%d weights), %s", name, size, why)
        self._parts: dict[tuple[str, int | None], Array] = defaultdict(lambda: np.zeros((len(tensors), 3)))

    def add(self, tensor: int, statistic: str, ratio: Ratio, k: int | None = None) -> None:
        """One tensor's share in a statistic, named `measure.statistic`."""
        self._parts[statistic, k][tensor] += ratio

    def rows(self, settings: ComparingModels) -> Rows:
        """All rows. Intervals are over layers: weights of one layer have moved together."""
        layers = np.array([-1 - i if t.layer is None else t.layer for i, t in enumerate(self.tensors)])
        dealing = derive_seed(settings.seed, "hrsa", "groups")
        rows = Rows(settings.context, {}, Groups(layers, settings.groups, dealing), settings.confidence)
        for part, layer, chosen in self._subsets():
            at = None if layer is None else (layer, layer)
            groups = Groups(layers[chosen], settings.groups, dealing)
            for (name, k), parts in self._parts.items():
                if not parts[chosen, 1].any() or (k is not None and layer is not None):
                    continue  # a spectrum is given of the whole and of kinds
                by_group = np.zeros((groups.count, 3))
                np.add.at(by_group, groups.of_row, parts[chosen])
                with np.errstate(divide="ignore", invalid="ignore"):  # without a lone group nothing is left
                    values = _value(name, *groups.leave_out(by_group).T)
                measure, statistic = name.split(".")
                declared = statistic_of(measure, statistic)
                found: Interval | float = float(values[0])
                if declared.has_interval:
                    rows.estimands[name] = declared.estimand
                    found = groups.one(values, settings.confidence, declared.bounds)
                rows.add(measure, statistic, found, at, part=part, k=k, n=groups.texts)
        for name, _, size in self.left_out:
            rows.add("left_out", "weights", float(size), part=name)
        return rows

    def _subsets(self) -> Iterator[tuple[str, int | None, Array]]:
        """Part, layer and tensors of each row: what is empty stands for all."""
        kinds = np.array([tensor.kind for tensor in self.tensors])
        of_layer = np.array([-1 if tensor.layer is None else tensor.layer for tensor in self.tensors])
        yield "", None, np.arange(len(kinds))
        for kind in dict.fromkeys(kinds):
            yield str(kind), None, np.flatnonzero(kinds == kind)
        for layer in sorted(set(of_layer) - {-1}):
            yield "", int(layer), np.flatnonzero(of_layer == layer)
            for kind in dict.fromkeys(kinds[of_layer == layer]):
                yield str(kind), int(layer), np.flatnonzero((of_layer == layer) & (kinds == kind))
        for i, tensor in enumerate(self.tensors):
            yield tensor.part, tensor.layer, np.array([i])


def _value(statistic: str, above: Array, below: Array, beside: Array) -> Array:
    """The number itself from its sums: a ratio, or what becomes one of squares."""
    if statistic == "update_norm.norm":
        return np.asarray(np.sqrt(above / below))
    if statistic.startswith("update_cosine."):
        return np.asarray(above / np.sqrt(below * beside))
    if statistic == "survival.explained":
        return np.asarray(above**2 / (below * beside))
    if statistic == "survival.floor":  # its sign says no more than which seed is called the other
        return np.asarray(np.abs(above / below))
    return np.asarray(above / below)
