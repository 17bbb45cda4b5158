"""How often are verdicts wrong? Worlds of known truth are drawn, and the paper's claims are judged in each.

    python bench/verdicts.py                              200 draws of each world, some ten minutes
    python bench/verdicts.py --draws 1000 --only scores
    python bench/verdicts.py --board results/             task differences as far apart as on a real board

*Scores*: four pairs with three seeds on the tasks of the paper's benchmarks. A gain is
mu + type + task + seed + rest, each but mu drawn anew. `null_effect` is true where |mu| is below its margin;
`null_effect_on_these_tasks` where the mean of each benchmark's drawn tasks is, for every pair.

*States*: 57 texts of 20 tokens, width 64, through the project's own measures. A world gives the right model
as a function of the left one, for backbones, a checkpoint and embedders. Whether a claim is true is read from
200 texts without attention sinks, so what a sink adds to a measure makes nothing true.

For each claim and world the share of draws in which it holds, fails or stays undecided, and its truth. At
`mu` equal to the margin either verdict is false.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from measured import measured

from realign.claims.judge import judge
from realign.hrsa import compare
from realign.ranking.board import read_board
from realign.results.columns import COLUMNS
from realign.results.tidy import Tidy
from realign.results.verdicts import overall
from realign.study.benchmarks import benchmarks, tasks
from realign.study.claims import PAPER_CLAIMS
from realign.study.description import PairEntry
from realign.study.drawing import JudgeClaims
from realign.study.figures import View

BENCHMARKS = ("MTEB(Multilingual, v2)", "MTEB(Code, v1)", "BRIGHT")
SEEDS = 3
MARGIN = 1.0  # of null_effect
TEXTS, TOKENS, WIDTH, MANY_TEXTS = 57, 20, 64, 200


class Drawn(Tidy):
    """Tidy results that were drawn, not read from files."""

    def __init__(self, **tables: pd.DataFrame):
        super().__init__([])
        for kind, columns in COLUMNS.items():
            frame = tables.get(kind, pd.DataFrame(columns=columns)).reindex(columns=columns)
            self.__dict__[kind] = frame.assign(file="drawn")


def verdicts(claims: dict, pairs: tuple[PairEntry, ...], tidy: Tidy) -> dict[str, str]:
    """Each claim's verdict."""
    view = View(recipe="full", corpora=("texts",))
    return {
        name: overall(f.verdict for f in findings)
        for name, findings in judge(JudgeClaims(claims=claims, pairs=pairs, view=view), tidy).items()
    }


# Scores ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a pair's task differences, in points of 100."""

    task: float
    type: float
    seed: float = 0.2
    rest: float = 0.3


SIBLINGS = Spread(task=0.6, type=0.3)
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


def score_worlds(draws, board, seed=0):
    """Each world's counts of (claim, true or not, verdict)."""
    pairs = tuple(PairEntry(name=f"b{i}--vs--r{i}", left=f"b{i}", right=f"r{i}", kind="rlvr") for i in "1234")
    claims = {name: PAPER_CLAIMS[name] for name in ("null_effect", "null_effect_on_these_tasks")}
    worlds = dict(SCORE_WORLDS)
    if board:
        spread = board_spread(board)
        print(
            f"near-equal models of the board: {spread.task:.1f} points within types, {spread.type:.1f} between"
        )
        worlds |= {
            f"{name}, as on the board": (mu, spread) for name, (mu, s) in SCORE_WORLDS.items() if s.task
        }
    found = {}
    for name, (mu, spread) in worlds.items():
        random, counts = np.random.default_rng([seed, len(found)]), Counter()
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


ROTATION = np.linalg.qr(np.random.default_rng(7).standard_normal((WIDTH, WIDTH)))[0]


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
    "unrelated models": (unrelated,) * 3 + (0,),
    "unrelated models, 4 sinks": (unrelated,) * 3 + (4,),
    "unrelated models, 57 sinks": (unrelated,) * 3 + (57,),
    "unrelated models that become one, 4 sinks": (unrelated, moved(0.3), moved(0.05), 4),
}  # fmt: skip
STATE_CLAIMS = (
    "global_geometry_preserved",
    "local_geometry_reorganised",
    "basis_drift_reversed",
    "realignment_is_fast",
)
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
            compare(
                *(np.stack([s, s]) for s in both), np.repeat(np.arange(texts), TOKENS),
                families=["linear", "neighbours"], k=(10,),
            ).assign(stage=stage, step=step, seed_left=seed, seed_right=seed)
        )  # fmt: skip
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(
        pair="base--vs--tuned", kind="rlvr", corpus="texts", attention="bidirectional", task=None
    )


def state_worlds(draws, seed=0, names=tuple(STATE_WORLDS)):
    """Each world's counts of (claim, true or not, verdict)."""
    pair = PairEntry(name="base--vs--tuned", left="base", right="tuned", kind="rlvr", tags=("prolonged",))
    claims = {name: PAPER_CLAIMS[name] for name in STATE_CLAIMS}
    found = {}
    for name in names:
        world = STATE_WORLDS[name]
        random, counts = np.random.default_rng([seed, 1, len(found)]), Counter()
        population = Drawn(measures=draw_measures(random, world, MANY_TEXTS, sinks=0))
        known = {"holds": True, "fails": False}  # what many texts leave undecided has no truth
        true = {claim: known.get(v) for claim, v in verdicts(claims, (pair,), population).items()}
        for _ in range(draws):
            measures = draw_measures(random, world, TEXTS, world[-1])
            for claim, verdict in verdicts(claims, (pair,), Drawn(measures=measures)).items():
                counts[claim, true[claim], verdict] += 1
        found[name] = counts
    return found


def is_false(true, verdict):
    """Whether a verdict is wrong; at the margin (`true` is None) either is."""
    return (verdict == "holds" and true is not True) or (verdict == "fails" and true is not False)


def report(found, draws):
    """Print the shares, and the greatest share of false verdicts."""
    for world, counts in found.items():
        for claim in dict.fromkeys(claim for claim, *_ in counts):
            own = {(true, verdict): n / draws for (c, true, verdict), n in counts.items() if c == claim}
            shares = {
                v: sum(n for (_, w), n in own.items() if w == v) for v in ("holds", "fails", "undecided")
            }
            false = sum(share for (true, verdict), share in own.items() if is_false(true, verdict))
            truth = {true for true, _ in own}
            said = {
                frozenset({True}): "true",
                frozenset({False}): "false",
                frozenset({None}): "at the margin, or undecided on many texts",
            }
            case = f"{world}: {claim} ({said.get(frozenset(truth), 'true or false by the draw')})"
            print(
                f"{case:100} "
                + "  ".join(f"{v} {s:6.1%}" for v, s in shares.items())
                + f"  false {false:6.1%}"
            )
            for verdict, share in shares.items():
                measured(case, verdict, 100 * share, "%")
            measured(case, "false verdicts", 100 * false, "%", aim="≤ 5")


def main():
    """Draw the worlds and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", choices=("scores", "states"))
    parser.add_argument(
        "--board", type=Path, help="a folder of mteb's results, for the spread of differences"
    )
    options = parser.parse_args()
    if options.only != "states":
        report(score_worlds(options.draws, options.board), options.draws)
    if options.only != "scores":
        report(state_worlds(options.draws), options.draws)


if __name__ == "__main__":
    main()
