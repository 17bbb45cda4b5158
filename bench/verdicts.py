"""How often are verdicts wrong? Worlds of known truth are drawn, and the paper's claims are judged in each.

    python bench/verdicts.py                              200 draws of each world, some twenty minutes of one core
    python bench/verdicts.py --draws 1000 --only scores
    python bench/verdicts.py --only states --part 2/6     the second sixth of the worlds
    python bench/verdicts.py --board results/             the spread of another board of mteb's results

*Scores*: four pairs with three seeds on the tasks of the paper's benchmarks. A gain is
mu + type + task + seed + rest, each but mu drawn anew: as far apart as we guess for models that differ in
post-training alone, and as far apart as models of like means are on the public board of MTEB(eng, v2). `null_effect` is true where |mu| is below its
margin; `null_effect_on_these_tasks` where the mean of each benchmark's drawn tasks is, for every pair.

*States*: 57 texts of 10 tokens, width 64, through the project's own measures. A world gives the right model
as a function of the left one, for backbones, a checkpoint and embedders. Whether a claim is true is read from
200 texts without attention sinks, so what a sink adds to a measure makes nothing true; the overlap of
neighbours, which depends on the number of tokens, is read from all draws.

*Seeds*: overlaps of neighbours between trainings of two backbones. Each training moves all of its
comparisons, each comparison has noise of its own, and a pair of one seed shares its batches.

For each claim and world the share of draws in which it holds, fails or stays undecided, and its truth. At
`mu` equal to the margin either verdict is false.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from measured import measured
from scipy.linalg import expm

from realign.claims.judge import judge
from realign.hrsa import compare
from realign.ranking.board import read_board
from realign.results.columns import COLUMNS, NUMBERS
from realign.results.tidy import Tidy
from realign.results.verdicts import overall
from realign.study.benchmarks import benchmarks, tasks
from realign.study.claims import PAPER_CLAIMS, PAPER_TENSIONS
from realign.study.description import PairEntry
from realign.study.drawing import JudgeClaims
from realign.study.figures import View

BENCHMARKS = ("MTEB(Multilingual, v2)", "MTEB(Code, v1)", "BRIGHT")
SEEDS = 3
MARGIN = 1.0  # of null_effect
WHOLE = (1, 1)  # the first part of one
TEXTS, TOKENS, WIDTH, MANY_TEXTS = 57, 10, 64, 200


class Drawn(Tidy):
    """Tidy results that were drawn, not read from files."""

    def __init__(self, **tables: pd.DataFrame):
        super().__init__([])
        for kind, columns in COLUMNS.items():
            frame = tables.get(kind, pd.DataFrame(columns=columns)).reindex(columns=columns)
            # Texts as Python's, since many small selections from Arrow's arrays are slow.
            texts = {column: object for column in columns if column not in NUMBERS}
            self.__dict__[kind] = frame.astype(texts).assign(file="drawn")


def verdicts(claims: dict, pairs: tuple[PairEntry, ...], tidy: Tidy) -> dict[str, str]:
    """Each claim's verdict."""
    view = View(recipe="full", corpora=("texts",))
    return {
        name: overall(f.verdict for f in findings)
        for name, findings in judge(JudgeClaims(claims=claims, pairs=pairs, view=view), tidy).items()
    }


def chosen(worlds, names, part):
    """The worlds of these names, or a part of all; the place of each among all fixes what is drawn in it."""
    number, parts = part
    first, end = (round(len(worlds) * n / parts) for n in (number - 1, number))
    for place, (name, world) in enumerate(worlds.items()):
        if name in names or (not names and first <= place < end):
            yield place, name, world


# Scores ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a pair's task differences, in points of 100."""

    task: float
    type: float
    seed: float = 0.2
    rest: float = 0.3


SIBLINGS = Spread(task=0.6, type=0.3)
# `board_spread` of the public results of mteb (commit f4cc6c8b): 40 models with all 41 tasks of MTEB(eng, v2)
ON_BOARD = Spread(task=6.3, type=2.8)
SCORE_WORLDS = {
    "identical models": (0.0, Spread(0.0, 0.0, 0.0, 0.0)),
    "no gain": (0.0, SIBLINGS),
    "a gain of half the margin": (0.5 * MARGIN, SIBLINGS),
    "a gain of the margin": (MARGIN, SIBLINGS),
    "a gain of three margins": (3 * MARGIN, SIBLINGS),
}


def board_spread(place: Path) -> Spread:
    """The spread between models of a board whose means differ by less than a point: medians over pairs.

    Of each pair's task differences, the variance within types and the one that types add to it (one-way
    analysis of variance, groups of unequal size).
    """
    board = read_board([place])
    values, of_type = board.scores.to_numpy(), pd.factorize(board.types)[0]
    means, sizes = values.mean(1), np.bincount(of_type)
    count, n = len(sizes), sizes.sum()
    usual = (n - (sizes**2).sum() / n) / (count - 1)
    found = []
    for i, j in zip(*np.triu_indices(len(values), 1), strict=True):
        if abs(means[i] - means[j]) >= 1:
            continue
        d = values[i] - values[j]
        by_type = np.bincount(of_type, d) / sizes
        within = ((d - by_type[of_type]) ** 2).sum() / (n - count)
        between = (sizes * (by_type - d.mean()) ** 2).sum() / (count - 1)
        found.append((within, max(0.0, (between - within) / usual)))
    task, type_ = np.sqrt(np.median(found, axis=0))
    return Spread(float(task), float(type_))


def draw_scores(random, mu, spread, pairs):
    """Scores of one draw, and for each pair and benchmark the true mean gain on the drawn tasks."""
    frames, truths = [], []
    for pair in pairs:
        for benchmark in BENCHMARKS:
            names = list(benchmarks()[benchmark])
            types = [tasks()[t]["type"] for t in names]
            codes = pd.factorize(pd.Series(types))[0]
            # Of one type alone there are no other types to speak of.
            of_type = spread.type * random.standard_normal(codes.max() + 1) * (codes.max() > 0)
            of_task = mu + of_type[codes] + spread.task * random.standard_normal(len(names))
            truths.append(of_task.mean())
            gain = of_task[:, None] + spread.seed * random.standard_normal(SEEDS)
            gain = gain + spread.rest * random.standard_normal(gain.shape)
            frames += [
                pd.DataFrame({
                    "backbone": side, "recipe": "full", "benchmark": benchmark, "metric": "main_score",
                    "task": np.repeat(names, SEEDS), "task_type": np.repeat(types, SEEDS),
                    "seed": np.tile(np.arange(SEEDS), len(names)), "value": values.ravel() / 100,
                })
                for side, values in ((pair.left, np.full(gain.shape, 50.0)), (pair.right, 50 + gain))
            ]  # fmt: skip
    return pd.concat(frames, ignore_index=True), np.array(truths)


def score_worlds(draws, board=None, seed=0, names=(), part=WHOLE):
    """Each world's counts of (claim, true or not, verdict)."""
    pairs = tuple(PairEntry(name=f"b{i}--vs--r{i}", left=f"b{i}", right=f"r{i}", kind="rlvr") for i in "1234")
    claims = {name: PAPER_CLAIMS[name] for name in ("null_effect", "null_effect_on_these_tasks")}
    spread = board_spread(board) if board else ON_BOARD
    print(
        f"models of like means on the board: {spread.task:.1f} points within types, {spread.type:.1f} between"
    )
    worlds = SCORE_WORLDS | {
        f"{name}, as on the board": (mu, spread) for name, (mu, s) in SCORE_WORLDS.items() if s.task
    }
    found = {}
    for place, name, (mu, spread) in chosen(worlds, names, part):
        random, counts = np.random.default_rng([seed, place]), Counter()
        for _ in range(draws):
            scores, truths = draw_scores(random, mu, spread, pairs)
            at_margin = mu == MARGIN  # neither verdict is right there
            true = {
                "null_effect": None if at_margin else abs(mu) < MARGIN,
                "null_effect_on_these_tasks": bool((abs(truths) < MARGIN).all()),
            }
            for claim, verdict in verdicts(claims, pairs, Drawn(scores=scores)).items():
                counts[claim, true[claim], verdict] += 1
        found[name] = counts
    return found


# States ------------------------------------------------------------------------------------------------


def noise(random, texts, share=0.5):
    """Tokens of texts; `share` of the variance is the text's."""
    of_text = np.repeat(random.standard_normal((texts, WIDTH)), TOKENS, axis=0)
    return np.sqrt(share) * of_text + np.sqrt(1 - share) * random.standard_normal(of_text.shape)


SKEW = np.random.default_rng(7).standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
ROTATION, PARTLY, FURTHER = (expm(angle * (SKEW - SKEW.T)) for angle in (2.0, 0.4, 0.6))


def moved(by, rotation=None):
    """The right model: the left one, rotated if told, plus noise of `by` of its size."""
    return lambda random, x, texts: (x if rotation is None else x @ rotation) + by * noise(random, texts)


def unrelated(random, x, texts):
    """A right model that shares nothing with the left one."""
    return noise(random, texts)


# For each world the right model's backbone, checkpoint and embedder, and how many texts begin with a sink.
STATE_WORLDS = {
    "identical models": (moved(0.0), moved(0.0), moved(0.0), 0),
    "nearly identical models": (moved(0.05), moved(0.05), moved(0.05), 0),
    "models that drift apart": (moved(0.3), moved(0.8), moved(1.5), 0),
    "a rotated basis that realigns": (moved(0.3, ROTATION), moved(0.1), moved(0.1), 0),
    "a rotated basis that stays": (moved(0.1, ROTATION),) * 3 + (0,),
    "a basis of which two thirds are kept": (moved(0.3, PARTLY),) * 3 + (0,),
    "a basis of which two fifths are kept": (moved(0.3, FURTHER),) * 3 + (0,),
    "unrelated models": (unrelated,) * 3 + (0,),
    "unrelated models, 4 sinks": (unrelated,) * 3 + (4,),
    "unrelated models, 57 sinks": (unrelated,) * 3 + (57,),
    "unrelated models that become one, 4 sinks": (unrelated, moved(0.3), moved(0.05), 4),
}  # fmt: skip
DRIFTS = PAPER_CLAIMS["basis_drift_only_if_prolonged"]
# What is true of models that share nothing, of which no number of texts fixes a rotation.
KEEPS_NOTHING = {"the basis drifts": True, "basis_drift_reversed": False, "realignment_is_fast": False}
BECOMES_ONE = {"the basis drifts": True, "basis_drift_reversed": True, "realignment_is_fast": True}
STATE_CLAIMS = {
    "the basis drifts": DRIFTS.model_copy(update={"tests": DRIFTS.tests[:1]}),
    **{
        name: PAPER_CLAIMS[name]
        for name in (
            "global_geometry_preserved",
            "local_geometry_reorganised",
            "basis_drift_reversed",
            "realignment_is_fast",
        )
    },
}
BOTH = {"families": ["linear", "neighbours"], "k": (10,)}
MEASURED = {"backbone": BOTH, "checkpoint": {"families": ["linear"]}, "embedder": BOTH}
STAGES = (("backbone", np.nan, np.nan), ("checkpoint", 200.0, 0.0), ("embedder", np.nan, 0.0))


def draw_measures(random, world, texts, sinks):
    """The measures of one draw: the rows of a pair's backbones, checkpoint and embedders."""
    *rights, _ = world
    x, frames = noise(random, texts), []
    for (stage, step, seed), right in zip(STAGES, rights, strict=True):
        both = [x.copy(), right(random, x, texts)]
        for states in both:
            states[: sinks * TOKENS : TOKENS, 0] += 300.0
        frames.append(
            compare(*both, np.repeat(np.arange(texts), TOKENS), **MEASURED[stage]).assign(stage=stage, step=step, seed_left=seed, seed_right=seed)
        )  # fmt: skip
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(
        pair="base--vs--tuned", kind="rlvr", corpus="texts", attention="bidirectional", task=None
    )


def state_worlds(draws, seed=0, names=(), part=WHOLE):
    """Each world's counts of (claim, true or not, verdict)."""
    pair = PairEntry(name="base--vs--tuned", left="base", right="tuned", kind="rlvr", tags=("prolonged",))
    found = {}
    for place, name, world in chosen(STATE_WORLDS, names, part):
        random, counts = np.random.default_rng([seed, 1, place]), Counter()
        population = Drawn(measures=draw_measures(random, world, MANY_TEXTS, sinks=0))
        known = {"holds": True, "fails": False}  # what many texts leave undecided has no truth
        true = {claim: known.get(v) for claim, v in verdicts(STATE_CLAIMS, (pair,), population).items()}
        if world[0] is unrelated:
            true |= KEEPS_NOTHING if world[2] is unrelated else BECOMES_ONE
        overlaps = []
        for _ in range(draws):
            measures = draw_measures(random, world, TEXTS, world[-1])
            near = measures[
                (measures["measure"] == "knn_overlap") & (measures["statistic"] == "mean_over_layers")
            ]
            overlaps.append(near.loc[near["stage"] == "backbone", "value"].mean())
            for claim, verdict in verdicts(STATE_CLAIMS, (pair,), Drawn(measures=measures)).items():
                counts[claim, verdict] += 1
        true["local_geometry_reorganised"] = bool(np.mean(overlaps) < 0.8)  # of a pool of so many tokens
        found[name] = Counter({(claim, true[claim], verdict): n for (claim, verdict), n in counts.items()})
    return found


# Seeds -------------------------------------------------------------------------------------------------

# For each world how far the two sides' trainings lie apart, and how many seeds there are.
SEED_WORLDS = {
    f"{what}, {seeds} seeds": (apart, seeds)
    for what, apart in (("no change beyond seeds", 0.0), ("a small change", 0.02), ("a change", 0.1))
    for seeds in (2, 3, 5)
}
OWN_BATCHES, OF_TRAINING, OF_PAIR, OF_TEXTS = 0.25, 0.02, 0.01, 0.004


def draw_overlaps(random, apart, seeds):
    """The rows of one draw: a pair seed by seed, across seeds, and each side with itself."""
    moves = {
        (side, seed): random.normal(0, OF_TRAINING) for side in ("base", "tuned") for seed in range(seeds)
    }
    every = list(product(range(seeds), repeat=2))
    compared = [("base--vs--tuned", "rlvr", "base", "tuned", [(i, j) for i, j in every if i == j])]
    compared += [
        ("base--vs--tuned-crossed", "control", "base", "tuned", [(i, j) for i, j in every if i != j])
    ]
    compared += [
        (f"{s}-seeds", "control", s, s, [(i, j) for i, j in every if i < j]) for s in ("base", "tuned")
    ]
    return pd.DataFrame([
        {
            "stage": "embedder", "pair": pair, "kind": kind, "corpus": "texts", "attention": "bidirectional",
            "measure": "knn_overlap", "statistic": "mean_over_layers", "k": 10.0, "preset": "",
            "seed_left": i, "seed_right": j, "se": OF_TEXTS, "df": 19.0, "n": TEXTS,
            "value": 0.5 + OWN_BATCHES * (kind == "rlvr") - apart * (left != right)
            + moves[left, i] + moves[right, j] + random.normal(0, OF_PAIR),
        }
        for pair, kind, left, right, cells in compared
        for i, j in cells
    ])  # fmt: skip


def seed_worlds(draws, seed=0, names=(), part=WHOLE):
    """Each world's counts of (claim, true or not, verdict)."""
    pair = PairEntry(name="base--vs--tuned", left="base", right="tuned", kind="rlvr")
    claims = {"irreversible_beyond_noise": PAPER_TENSIONS["tension_irreversible_beyond_noise"]}
    found = {}
    for place, name, (apart, seeds) in chosen(SEED_WORLDS, names, part):
        random, counts = np.random.default_rng([seed, 2, place]), Counter()
        for _ in range(draws):
            tidy = Drawn(measures=draw_overlaps(random, apart, seeds))
            for claim, verdict in verdicts(claims, (pair,), tidy).items():
                counts[claim, True if apart else None, verdict] += 1
        found[name] = counts
    return found


def is_false(true, verdict):
    """Whether a verdict is wrong; at the margin (`true` is None) either is."""
    return (verdict == "holds" and true is not True) or (verdict == "fails" and true is not False)


TRUTHS = {
    frozenset({True}): "true",
    frozenset({False}): "false",
    frozenset({None}): "at the margin, or undecided on many texts",
}


def report(found, draws):
    """Print the shares of each claim and world, and the greatest share of false verdicts."""
    greatest = 0.0
    for world, counts in found.items():
        for claim in dict.fromkeys(claim for claim, *_ in counts):
            own = {(true, verdict): n / draws for (c, true, verdict), n in counts.items() if c == claim}
            truth = TRUTHS.get(frozenset(true for true, _ in own), "true or false by the draw")
            case = f"{world}; {claim}; {truth}"
            for verdict in ("holds", "fails", "undecided"):
                share = sum(n for (_, w), n in own.items() if w == verdict)
                measured(case, verdict, round(100 * share, 1), "%")
            false = round(100 * sum(n for (true, v), n in own.items() if is_false(true, v)), 1)
            measured(case, "false", false, "%")
            greatest = max(greatest, false)
    # Where the share is 5 %, so many draws show up to this much in 39 of 40 worlds.
    bound = round(5 + 1.96 * 100 * (0.05 * 0.95 / draws) ** 0.5, 1)
    worlds = f"{', '.join(found)}: {draws} draws of each"
    measured(worlds, "greatest share of false verdicts on a claim", greatest, "%", aim=f"≤ {bound}")


def part_of(text):
    """`2/6`: the second of six parts."""
    number, parts = map(int, text.split("/"))
    return number, parts


def main():
    """Draw the worlds and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", choices=("scores", "states", "seeds"))
    parser.add_argument(
        "--board", type=Path, help="a folder of mteb's results, for the spread of differences"
    )
    parser.add_argument("--part", type=part_of, default=WHOLE, metavar="2/6", help="a part of the worlds")
    options = parser.parse_args()
    asked = [options.only] if options.only else ["scores", "states", "seeds"]
    if "scores" in asked:
        report(score_worlds(options.draws, options.board, part=options.part), options.draws)
    if "states" in asked:
        report(state_worlds(options.draws, part=options.part), options.draws)
    if "seeds" in asked:
        report(seed_worlds(options.draws, part=options.part), options.draws)


if __name__ == "__main__":
    main()
