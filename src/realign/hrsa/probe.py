"""The probe family: does what a linear probe learnt on one model hold for the other?

A probe is fitted on one model's pooled states and read, unchanged, from both. Directions: `left`
and `right` are fitted on the left model and read from the left or the right one; `native` and
`back` are fitted on the right model and read from the right or the left one. A `_mapped` direction
first carries the other model's vectors over by the best rotation between the two.
"""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

import realign.measures.probe  # noqa: F401 (declares what its rows hold)
from realign.artifacts.command import Job, UserError
from realign.engine.progress import Progress
from realign.hrsa.groups import Groups
from realign.hrsa.labels import Target, as_target
from realign.hrsa.opening import Opened, open_pair
from realign.hrsa.reading import Array, Picked, StateFile, read_all
from realign.hrsa.rows import Rows
from realign.seeds import derive_seed
from realign.study.hrsa import Probe, ProbeJob

log = logging.getLogger(__name__)
SPLITS = ("train", "dev", "test")
OWN = {"right": "left", "back": "native", "right_mapped": "left", "back_mapped": "native"}


def run(job: Job[ProbeJob]) -> None:
    """The command: two files of pooled states, which hold the labels, to rows."""
    with StateFile(job.input("left")) as file:
        target = as_target(file.labels(), job.settings.task)
    with open_pair(job.input("left"), job.input("right"), job.settings) as pair:
        measure(pair, target, job.settings)
        pair.rows.write(job.output("measures"))


def measure(pair: Opened, target: Target, settings: ProbeJob) -> None:
    """Probes of corresponding layers in all directions, added to the pair's rows."""
    texts = len(np.unique(pair.left.text_index))
    if texts < pair.left.tokens:  # tokens of one text in train and in test would tell on each other
        raise UserError(
            f"{pair.left.name}: probes compare pooled states, one row a text, and these are "
            f"{pair.left.tokens} rows of {texts} texts"
        )
    kept = choose_texts(target, settings)
    target = Target(target.values[kept], target.classes)
    left, right = Picked(pair.left, kept), Picked(pair.right, kept)
    groups = Groups(left.text_index, settings.groups, derive_seed(settings.seed, "hrsa", "groups"))
    rows = pair.rows
    rows.groups = groups
    layers = _layers(settings, left.layers, right.layers)
    splits = [split_texts(target, settings, seed) for seed in range(settings.seeds)]
    with Progress("probes", len(layers) * len(splits), "probes") as progress:
        for layer in layers:
            x = _vectors(left, layer[0], settings.normalize)
            y = _vectors(right, layer[1], settings.normalize)
            tallies: dict[tuple[str, str], Tally] = {}
            for parts in splits:
                for direction, predicted in read_probes(x, y, target, parts, settings):
                    for split in SPLITS:
                        tally = tallies.setdefault((direction, split), Tally(groups, target))
                        tally.add(predicted, parts[split])
                progress.advance()
            _add(rows, tallies, layer)


def choose_texts(target: Target, settings: Probe | ProbeJob) -> Array:
    """The texts that are probed: classes with too few left out, and no more than asked for."""
    kept = _of_common_classes(target, np.arange(len(target.values)), settings.least)
    if len(np.unique(target.values[kept])) < 2:
        few = f"fewer than two classes have {settings.least} texts or more"
        raise UserError(f"{'all labels are equal' if target.is_quantity else few}: nothing to probe for")
    if settings.max_texts is not None and len(kept) > settings.max_texts:
        seed = derive_seed(getattr(settings, "seed", 0), "hrsa", "probe texts")
        drawn = np.random.default_rng(seed).choice(kept, settings.max_texts, replace=False)
        kept = _of_common_classes(target, np.sort(drawn), settings.least)  # it may have few of a rare class
        if len(np.unique(target.values[kept])) < 2:
            raise UserError(
                f"probe.max_texts: of {settings.max_texts} texts fewer than two classes have {settings.least}"
            )
    return kept


def _of_common_classes(target: Target, texts: Array, least: int) -> Array:
    """Those of some texts whose class has so many among them; all of them where labels are quantities."""
    if target.is_quantity:
        return texts
    values = target.values[texts]
    return texts[np.bincount(values, minlength=len(target.classes))[values] >= least]


def split_texts(target: Target, settings: ProbeJob, number: int) -> dict[str, Array]:
    """Train, dev and test texts; each class is divided in the same shares."""
    random = np.random.default_rng(derive_seed(settings.seed, "hrsa", "probe split", number))
    least = 2 if target.is_quantity else 1  # of one text there is no R²
    strata = np.zeros(len(target.values), int) if target.is_quantity else target.values
    parts: dict[str, list[Array]] = {name: [] for name in SPLITS}
    for stratum in np.unique(strata):
        texts = random.permutation(np.flatnonzero(strata == stratum))
        test = max(least, round(settings.test * len(texts)))
        dev = max(least, round(settings.dev * len(texts)))
        for name, part in zip(("test", "dev", "train"), np.split(texts, [test, test + dev]), strict=True):
            parts[name].append(part)
    split = {name: np.sort(np.concatenate(part)) for name, part in parts.items()}
    if not all(map(len, split.values())) or len(np.unique(target.values[split["train"]])) < 2:
        shares = f"test {settings.test:g}, dev {settings.dev:g}"
        raise UserError(f"{len(target.values)} texts are too few to divide for a probe ({shares})")
    return split


def _layers(settings: ProbeJob, left: int, right: int) -> list[tuple[int, int]]:
    if left != right:
        if settings.layers not in ("final", "all"):
            raise UserError(f"layers: of {left} and {right} layers only the final ones correspond")
        log.warning("%d and %d layers: only the final ones correspond, and are probed", left, right)
    if settings.layers == "final" or left != right:
        return [(left - 1, right - 1)]
    wanted = range(left) if settings.layers == "all" else settings.layers
    if beyond := [layer for layer in wanted if not 0 <= layer < left]:
        raise UserError(f"layers: {beyond[0]} is asked for, and the states have layers 0 to {left - 1}")
    return [(layer, layer) for layer in wanted]


def _vectors(states: Picked, layer: int, normalize: bool) -> Array:
    vectors = read_all(states, layer).astype(np.float64)
    if not normalize:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def read_probes(
    left: Array, right: Array, target: Target, parts: dict[str, Array], settings: ProbeJob
) -> Iterator[tuple[str, Array]]:
    """Predictions for all texts, direction by direction."""
    for own, other, names in ((left, right, ("left", "right")), (right, left, ("native", "back"))):
        probe = fit_probe(own, target, parts, settings)
        yield names[0], probe(own)
        if own.shape[1] != other.shape[1]:
            continue  # a probe has one weight a dimension
        yield names[1], probe(other)
        if settings.procrustes:
            yield f"{names[1]}_mapped", probe(_carried_over(other, own, parts["train"]))


def _carried_over(vectors: Array, onto: Array, train: Array) -> Array:
    """Vectors rotated onto another model's by what their training texts say."""
    mean, mean_onto = vectors[train].mean(0), onto[train].mean(0)
    u, _, v = np.linalg.svd((vectors[train] - mean).T @ (onto[train] - mean_onto))
    return (vectors - mean) @ (u @ v) + mean_onto


def fit_probe(vectors: Array, target: Target, parts: dict[str, Array], settings: ProbeJob) -> Any:
    """The probe that is best on dev, as a function from vectors to predictions."""
    train, dev = parts["train"], parts["dev"]
    mean, spread = vectors[train].mean(0), vectors[train].std(0)
    spread = np.where(spread > 1e-12, spread, 1)

    def scale(x: Array) -> Array:
        return (x - mean) / spread

    x, y = scale(vectors[train]), target.values
    best, best_score = None, -np.inf
    for c in sorted(settings.c):
        if target.is_quantity:
            model: Any = Ridge(alpha=1 / c).fit(x, y[train])
        else:
            model = LogisticRegression(C=c, max_iter=settings.iterations)
            with warnings.catch_warnings():  # a probe cut short is still a probe, judged on dev
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x, y[train])
        score = model.score(scale(vectors[dev]), y[dev])
        if score > best_score:
            best, best_score = model, score
    assert best is not None
    fitted = best
    return lambda other: fitted.predict(scale(other))


@dataclass
class Tally:
    """What predictions amount to, by group of texts: a confusion matrix, or sums of squares."""

    groups: Groups
    target: Target

    def __post_init__(self) -> None:
        classes = len(self.target.classes)
        self.sums = np.zeros((self.groups.count, *((4,) if self.target.is_quantity else (classes, classes))))

    def add(self, predicted: Array, texts: Array) -> None:
        """Count the predictions for some texts."""
        true, group, predicted = self.target.values[texts], self.groups.of_row[texts], predicted[texts]
        if self.target.is_quantity:
            of_each = np.stack([np.ones(len(texts)), true, true**2, (true - predicted) ** 2], 1)
            np.add.at(self.sums, group, of_each)
        else:
            np.add.at(self.sums, (group, true, predicted), 1)

    def scores(self) -> dict[str, Array]:
        """Each score with groups left out."""
        sums = self.groups.leave_out(self.sums)
        if self.target.is_quantity:
            n, total, squares, error = np.moveaxis(sums, 1, 0)
            return {"r2": 1 - error / (squares - total**2 / n)}
        hits = np.diagonal(sums, axis1=1, axis2=2)
        both = sums.sum(1) + sums.sum(2)
        present = sums.sum(2) + sums.sum(1) > 0
        f1 = np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)
        return {
            "accuracy": hits.sum(1) / sums.sum((1, 2)),
            "macro_f1": f1.sum(1) / np.maximum(present.sum(1), 1),
        }


def _add(rows: Rows, tallies: dict[tuple[str, str], Tally], layers: tuple[int, int]) -> None:
    """All scores, and those of test with intervals: a probe was fitted on train and chosen on dev."""
    for (direction, split), tally in tallies.items():
        about: dict[str, Any] = {"task": "label", "split": split, "direction": direction}
        own = tallies[OWN[direction], split].scores() if direction in OWN else {}
        for statistic, values in tally.scores().items():
            found = {statistic: values}
            if own:  # what reading from the other model costs, on the same texts
                found[f"{statistic}_change"] = values - own[statistic]
            for name, each in found.items():
                if split != "test":
                    rows.add("probe", name, each[0], layers, **about)
                    continue
                rows.add_jackknifed("probe", name, each, layers, **about)
