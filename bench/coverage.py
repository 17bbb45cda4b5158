"""Do 95 % intervals cover? Pairs of models are simulated, and every interval is held to a known truth.

    python bench/coverage.py                            200 samples of 120 texts, a few minutes
    python bench/coverage.py --texts 40 --samples 400
    python bench/coverage.py --sink 20000               with massive activations
    python bench/coverage.py --only similarity --texts 57 --tokens 10 --width 64 --tails 4.5

Two models of two layers see texts whose tokens share something, so tokens are not independent. What
the population has (correlation, debiased CKA) and how a sample's rotation does on it (residual) are
computed from the model that made the samples; the rotation's cosine and a probe's score are read from
20,000 new tokens and texts, as is all that two heads make of these states; what depends on the sample's size by definition (say, a rotation's angle and
entropy, or neighbours in a pool of so many tokens) is held to its mean over all samples. So are measures
of weights, of models whose layers are a sample of layers. The share of
intervals that cover, and how far values are spread, in standard deviations, to how far the intervals
say they are: 1 is right.
"""

import argparse
from collections import defaultdict

import numpy as np
import torch
from measured import measured

from realign.hrsa import behaviour, compare, probe, survival, weights
from realign.hrsa.folders import Folder, Place
from realign.hrsa.groups import Groups
from realign.hrsa.labels import Target
from realign.hrsa.opening import pair_up
from realign.hrsa.procrustes import cosines
from realign.hrsa.reading import ArrayStates
from realign.study.hrsa import BehaviourJob, ComparingModels, ProbeJob, WeightsJob

NEW = 20_000
LAYERS = 30


class World:
    """Two models of which everything is known: y = x·map + noise, layer by layer.

    Dimension 0 of each text's first token is `sink` times as large in both. What the tokens of a text share
    follows a t distribution of `tails` degrees of freedom and variance 1.
    """

    def __init__(self, seed, width, each, sink=1.0, tails=np.inf):
        self.random, self.width, self.each, self.sink = np.random.default_rng(seed), width, each, sink
        self.tails = tails
        self.mix = self.random.standard_normal((width, width)) * np.linspace(2, 0.3, width)
        self.maps = [0.6 * np.eye(width) + 0.3 * self.random.standard_normal((width, width)) for _ in "01"]
        self.new = self.draw(NEW // each)

    def covariances(self, layer):
        """Of x with itself, of x with y, and of y with itself, over all tokens of all texts."""
        by, inside = self.maps[layer], 2 * self.mix.T @ self.mix
        found = inside, inside @ by, by.T @ inside @ by + 2 * np.eye(self.width)
        scale = np.ones(self.width)
        scale[0] = self.sink
        first = np.outer(scale, scale)  # what a text's first token has of each
        return [c * (first + self.each - 1) / self.each for c in found]

    def truth(self, x, y):
        """What the population has, by (measure, statistic, layer), and what a sample's rotation does on it."""
        found = {}
        for layer, (a, b) in enumerate(zip(x, y, strict=True)):
            xx, xy, yy = self.covariances(layer)
            # the rotation is judged on texts of 20 groups in turn, so it is fitted on 19 in 20
            seen = slice(0, len(a) * 19 // 20)
            mean_x, mean_y = a[seen].mean(0), b[seen].mean(0)
            u, _, v = np.linalg.svd((a[seen] - mean_x).T @ (b[seen] - mean_y))
            off = mean_x @ u @ v - mean_y
            misfit = np.trace(xx) + np.trace(yy) - 2 * np.vdot(u @ v, xy) + off @ off
            new_x, new_y = (side[layer] for side in self.new)
            values = {
                ("cka_debiased", "value"): (xy**2).sum() / np.sqrt((xx**2).sum() * (yy**2).sum()),
                ("correlation", "mean"): (np.diag(xy) / np.sqrt(np.diag(xx) * np.diag(yy))).mean(),
                ("procrustes", "residual"): misfit / (np.trace(yy) + mean_y @ mean_y),
                ("procrustes", "cosine"): cosines((new_x - mean_x) @ u @ v, new_y - mean_y).mean(),
            }
            found |= {(*name, layer): value for name, value in values.items()}
        return found

    def noise(self, texts):
        shared = self.random.standard_normal((texts, self.width))
        if np.isfinite(self.tails):
            lengths = np.sqrt(self.random.chisquare(self.tails, (texts, 1)) / (self.tails - 2))
            shared /= lengths
        of_text = np.repeat(shared, self.each, axis=0)
        return of_text + self.random.standard_normal(of_text.shape)

    def draw(self, texts):
        x = self.noise(texts) @ self.mix
        both = np.stack([x, x]), np.stack([x @ by + self.noise(texts) for by in self.maps])
        for values in both:
            values[:, :: self.each, 0] *= self.sink
        return both


def similarity_rows(world, texts):
    """All rows with an interval of one sample: (what, truth or nothing, value, low, high)."""
    x, y = world.draw(texts)
    table = compare(
        x, y, np.repeat(np.arange(texts), world.each), k=(5, 10), procrustes_intervals="all",
        precision="float64",
    )  # fmt: skip
    table = table[table.ci_low.notna() & (table.preset == "")]
    truth = world.truth(x, y)
    for row in table.itertuples():
        if row.layer_left == row.layer_right or np.isnan(row.layer_left):
            layer = -1 if np.isnan(row.layer_left) else int(row.layer_left)
            about = "" if np.isnan(row.k) else f" k={int(row.k)}"
            side = row.direction if isinstance(row.direction, str) else ""
            what = f"{row.measure}.{row.statistic}{about} {side}".strip()
            known = truth.get((row.measure, row.statistic, layer))
            yield (what, layer), known, row.value, row.ci_low, row.ci_high


def probe_rows(random, texts, quantity):
    """The same of a probe, fitted on some texts and held to its score on many new ones."""
    width = 6
    settings = ProbeJob(seeds=1, c=(1.0,), test=0.3, dev=0.1)
    x = random.standard_normal((texts + NEW, width))
    y = x + 0.7 * random.standard_normal(x.shape)
    score = x @ np.linspace(1, -1, width) + random.standard_normal(len(x))
    target = Target(score, ()) if quantity else Target(np.digitize(score, [-1, 1]), ("a", "b", "c"))
    parts = probe.split_texts(
        Target(target.values[:texts], target.classes), settings, int(random.integers(99))
    )
    groups, everyone = Groups(np.arange(texts)), Groups(np.arange(texts + NEW), 2)
    found = {}
    for direction, predicted in probe.read_probes(x, y, target, parts, settings):
        tallies = probe.Tally(groups, target), probe.Tally(everyone, target)
        for tally, rows in zip(tallies, (parts["test"], np.arange(texts, texts + NEW)), strict=True):
            tally.add(predicted, rows)
        found[direction] = [tally.scores() for tally in tallies]
    for direction, (here, there) in found.items():
        for statistic, values in here.items():
            yield (f"probe.{statistic} {direction}", 0), there[statistic][0], *groups.one(values)[:3]
            if direction in probe.OWN:
                own = [scores[statistic] for scores in found[probe.OWN[direction]]]
                change = values - own[0]
                truth = there[statistic][0] - own[1][0]
                yield (f"probe.{statistic}_change {direction}", 0), truth, *groups.one(change)[:3]


class Held(Folder):
    """A model whose tensors are in memory, one matrix a layer."""

    def __init__(self, matrices):
        self.matrices = {f"layers.{i}.mlp.up_proj.weight": matrix for i, matrix in enumerate(matrices)}
        self.places = {name: Place("", name, tuple(m.shape), "F32") for name, m in self.matrices.items()}

    def rows(self, name, start=0, stop=None):
        return self.matrices[name][start:stop].clone()  # since the update is made in its place


def weight_rows(random):
    """All rows with an interval of whole models' weights: a base, its update, and trainings of both.

    Layers differ in the size and the sparsity of their update, and in how much of it training keeps.
    """

    def drawn(size):
        return torch.from_numpy((size * random.standard_normal((LAYERS, 32, 24))).astype(np.float32))

    each = (LAYERS, 1, 1)
    base = drawn(np.linspace(2, 0.3, 24))
    there = torch.from_numpy(random.random((LAYERS, 32, 24)) < random.uniform(0.3, 0.9, each))
    update = drawn(0.01 * np.exp(0.4 * random.standard_normal(each))) * there
    kept = torch.from_numpy(random.uniform(0.2, 0.8, each).astype(np.float32))
    recipe, tuned = drawn(0.02), base + update
    trained = [base + recipe + drawn(0.01) for _ in range(2)]
    trained_too = trained[0] + kept * update + drawn(0.005)
    whole = [*map(Held, (base, tuned, trained[0], trained_too))]
    for rows in (
        weights.measure(*whole[:2], WeightsJob(top=6)),
        survival.measure(whole, Held(trained[1]), ComparingModels()),
    ):
        table = rows.table().to_pandas()
        for row in table[(table["part"] == "") & table.layer_left.isna() & table.ci_low.notna()].itertuples():
            about = "" if np.isnan(row.k) else f" k={int(row.k)}"
            yield (f"{row.measure}.{row.statistic}{about}", -1), None, row.value, row.ci_low, row.ci_high


class Head:
    """Reads one of a few tokens from states."""

    def __init__(self, random, width, tokens=9):
        self.weights = torch.as_tensor(0.15 * random.standard_normal((width, tokens)), dtype=torch.float32)
        self.vocabulary = tokens

    def logits(self, states):
        return states @ self.weights

    def normed(self, states):
        return states


class Reading:
    """The two models of a world with a head each, and texts that go on as the left one expects."""

    settings = BehaviourJob(positions=(2, 4), entropy_bins=3, sample=NEW)

    def __init__(self, world, seed):
        self.world, self.random = world, np.random.default_rng([seed, 2])
        self.heads = [Head(self.random, world.width) for _ in "01"]
        whole = self.rows(*world.new)
        self.truth = {what: value for what, value, *_ in whole if not what[0].startswith("stitching")}

    def rows(self, x, y):
        """All rows with an interval: (what, value, low, high)."""
        texts = np.repeat(np.arange(x.shape[1] // self.world.each), self.world.each)
        pair = pair_up(ArrayStates(x, texts), ArrayStates(y, texts), self.settings, {"level": "token"})
        chances = self.heads[0].logits(torch.as_tensor(x[-1], dtype=torch.float32)).softmax(-1).cumsum(-1)
        drawn = (chances.numpy() < self.random.random((len(texts), 1))).sum(1)
        follows = np.minimum(drawn, self.heads[0].vocabulary - 1)
        known = np.arange(self.heads[0].vocabulary)
        told = behaviour.Vocabulary(known, follows, np.arange(len(texts)) % self.world.each)
        behaviour.measure(pair, self.heads, told, self.settings)
        table = pair.rows.table().to_pandas()
        for row in table[table.ci_low.notna()].itertuples():
            about = [row.part, f"{row.k:g}"] if isinstance(row.part, str) else [row.direction]
            layer = -1 if np.isnan(row.layer_left) else int(row.layer_left)
            what = " ".join([f"{row.measure}.{row.statistic}", *filter(lambda x: isinstance(x, str), about)])
            yield (what, layer), row.value, row.ci_low, row.ci_high

    def sample(self, texts):
        """The same of new texts with what the population has, or nothing where maps depend on the texts."""
        for what, *numbers in self.rows(*self.world.draw(texts)):
            yield what, self.truth.get(what), *numbers


def simulate(samples, texts, each, width, sink=1.0, tails=np.inf, seed=0, similarity_alone=False):
    """By statistic and layer: the share of intervals that cover, and spread found to spread said."""
    given = seed, width, each, sink, tails
    world, random, found = World(*given), np.random.default_rng([seed, 1]), defaultdict(list)
    reading = None if similarity_alone else Reading(World(*given), seed)  # its draws are its own
    for _ in range(samples):
        rows = [*similarity_rows(world, texts)]
        if reading:
            rows += [*weight_rows(random), *reading.sample(texts)]
            for quantity in (False, True):
                rows += probe_rows(random, 5 * texts, quantity)
        for what, truth, *numbers in rows:
            found[what].append((np.nan if truth is None else truth, *numbers))
    result = {}
    for what, rows in found.items():
        truth, value, low, high = np.array(rows).T
        truth = np.where(np.isnan(truth), value.mean(), truth)
        covered = ((low <= truth) & (truth <= high)).mean()
        said = np.sqrt((((high - low) / (2 * 2.093)) ** 2).mean())
        result[what] = covered, said / max((value - truth).std(), 1e-300)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--texts", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=6, help="tokens in each text")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--sink", type=float, default=1, help="how massive a text's first token is")
    parser.add_argument(
        "--tails", type=float, default=np.inf, help="degrees of freedom of what a text shares"
    )
    parser.add_argument("--only", choices=("similarity",), help="leave out probes, weights and behaviour")
    asked = parser.parse_args()
    case = f"{asked.samples} samples of {asked.texts} texts of {asked.tokens} tokens, {asked.width} wide"
    if asked.sink != 1:
        case += f", first tokens {asked.sink:g} times as large"
    if np.isfinite(asked.tails):
        case += f", texts' effects with t of {asked.tails:g}"
    found = simulate(
        asked.samples, asked.texts, asked.tokens, asked.width, asked.sink, asked.tails,
        similarity_alone=asked.only == "similarity",
    )  # fmt: skip
    for (what, layer), (covered, ratio) in sorted(found.items()):
        name = what if layer < 0 else f"{what}, layer {layer}"
        measured(case, f"{name}: covered", round(100 * covered, 1), "%")
        measured(case, f"{name}: spread said / found", round(float(ratio), 2), "×")
    shares = [round(100 * covered, 1) for covered, _ in found.values()]
    measured(case, f"least of {len(shares)} intervals: covered", min(shares), "%", "≥ 90")
    measured(case, f"median of {len(shares)} intervals: covered", round(float(np.median(shares)), 1), "%")
    measured(case, f"greatest of {len(shares)} intervals: covered", max(shares), "%", "≤ 98")


if __name__ == "__main__":
    main()
