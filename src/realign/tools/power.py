"""`realign power`: how small a difference the scores of a study could decide, before anything is run.

A difference counts as decided if a test finds it in four of five runs in which it is there, and excludes it
(equivalence within ± so much) in four of five runs in which there is none. That depends on the number of
tasks and seeds, and on how far differences lie apart from task to task and from seed to seed.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from realign.artifacts.command import UserError
from realign.plan.evaluations import planned_tasks
from realign.plan.targets import seeds_of, trains
from realign.ranking.board import Board, read_board
from realign.results.power import (
    CHANCE,
    Spread,
    chance_within,
    expected,
    least_distance,
    least_margin,
    spread_of,
    usual_spread,
)
from realign.study.benchmarks import benchmarks, tasks
from realign.study.claims import ClaimTest
from realign.study.errors import nearest
from realign.study.kinds import is_control
from realign.study.load import load_study
from realign.study.pairs import Pair
from realign.study.study import Study

# Nobody has published scores by task of two models that differ in post-training alone. These are ours: a
# quarter of the spread between the closest models of one family on a public board (2.5 points).
ASSUMED = Spread(task=0.6, type=0.3, seed=0.2, rest=0.3)
ALIKE = 1.0  # models whose mean scores differ by less are taken as a pair
MOST_SEEDS, MOST_TASKS = 50, 2000
HEADS = ("", "tasks", "types", "seeds", "other tasks like these", "these very tasks")
ONE_SEED = """
One seed does not show how far seeds scatter, so its intervals are too narrow and decide nothing here."""
NEEDED = ("", "seeds, for other tasks", "tasks, for other tasks", "seeds, for these tasks")


@dataclass(frozen=True)
class Planned:
    """Tasks of a benchmark, by type, and seeds."""

    name: str
    types: tuple[str, ...]
    seeds: int

    def with_tasks(self, count: int) -> "Planned":
        """The same with more or fewer tasks, in the same shares of types."""
        ordered = sorted(self.types)
        places = (np.arange(count) * len(ordered) / count).astype(int)
        return Planned(self.name, tuple(ordered[place] for place in places), self.seeds)

    def decides(self, spread: Spread, alpha: float, over: str = "tasks") -> float:
        """The least difference that is decided."""
        estimate = expected(spread, self.types, self.seeds, over)
        if not np.isfinite(estimate.error):
            return np.inf
        found = least_distance(1.0, estimate.freedom, alpha / 2)
        excluded = least_margin(1.0, estimate.freedom, alpha)
        return max(found, excluded) * estimate.error


def main(words: Sequence[str]) -> int:
    """Parse the command line and print what the design could decide."""
    parser = _parser()
    given = parser.parse_args(list(words))
    if bool(given.study) == bool(given.benchmark or given.tasks is not None):
        parser.error("give a study, or else benchmarks or a number of tasks")
    for name, valid, rule in (
        ("tasks", given.tasks is None or given.tasks >= 1, "1 or more"),
        ("seeds", given.seeds is None or given.seeds >= 1, "1 or more"),
        ("points", 0 < given.points < np.inf, "above 0"),
        ("alpha", 0 < given.alpha < 0.5, "between 0 and 0.5"),
        (
            "spread",
            all(0 <= part < np.inf for part in given.spread or ()),
            "standard deviations of 0 or more",
        ),
    ):
        if not valid:
            parser.error(f"--{name}: give {rule}")
    study = load_study(given.study) if given.study else None
    designs = planned(study, given.seeds) if study else stated(given.benchmark, given.tasks, given.seeds or 3)
    spread, source = ASSUMED, "assumed; --like RESULTS reads it from results"
    if given.spread:
        spread, source = Spread(*given.spread), "as given"
    elif given.like:
        spread, source = spread_between(read_board(given.like))
    print(as_text(designs, spread, source, given.points, given.alpha))
    if spread.seed > 0 and any(design.seeds == 1 for design in designs):
        print(ONE_SEED)
    elif study:
        print(of_claims(study, designs, spread))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "realign power",
        allow_abbrev=False,
        description="Say how small a difference of benchmark scores a study could decide, before it is run.",
    )
    parser.add_argument("study", nargs="?", type=Path, help="a study file: its benchmarks, tasks and seeds")
    parser.add_argument("--benchmark", nargs="+", default=[], metavar="NAME", help="or these benchmarks")
    parser.add_argument("--tasks", type=int, metavar="N", help="or so many tasks of one type")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds (default: the study's, else 3)")
    parser.add_argument(
        "--points", type=float, default=1.0, help="the difference to decide, in points of 100 (default: 1)"
    )
    parser.add_argument(
        "--like",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="take the spread of differences from these results: pairs of models whose means differ by "
        f"less than {ALIKE:g} point (folders of mteb's JSON files, or results/STUDY)",
    )
    parser.add_argument(
        "--spread",
        nargs=4,
        type=float,
        metavar=("TASK", "TYPE", "SEED", "REST"),
        help="or these standard deviations, in points: between tasks of a type, types, seeds, and the rest",
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="level of the tests (default: 0.05)")
    return parser


def planned(study: Study, seeds: int | None) -> list[Planned]:
    """The benchmarks of a study."""
    recipe = _main_recipe(study)
    seeds = seeds or (len(seeds_of(study, recipe)) if recipe else 0)
    types: dict[str, list[str]] = {}
    for planned in planned_tasks(study.evaluation).values():
        source = planned.source
        for benchmark in planned.parts:
            types.setdefault(benchmark, []).append(source.type or str(tasks()[source.task]["type"]))
    if not (types and recipe and seeds):
        raise UserError("this study trains no embedder that it evaluates, so there are no scores to compare")
    return [Planned(name, tuple(own), seeds) for name, own in types.items()]


def _main_recipe(study: Study) -> str:
    """The recipe whose embedders claims compare."""
    return study.figures.view.recipe or next(iter(study.recipes), "")


def stated(names: Sequence[str], count: int | None, seeds: int) -> list[Planned]:
    """Benchmarks by name, or so many tasks."""
    for name in names:
        if name not in benchmarks():
            raise UserError(f"no benchmark '{name}'{nearest(name, benchmarks())}")
    designs = [Planned(n, tuple(str(tasks()[t]["type"]) for t in benchmarks()[n]), seeds) for n in names]
    return [*designs, *([Planned(f"{count} tasks", ("one type",) * count, seeds)] if count else [])]


def spread_between(board: Board) -> tuple[Spread, str]:
    """The usual spread between models of a board that are alike in their means, and how many pairs."""
    means, names, tables = board.scores.mean(axis=1), board.scores.index, []
    for left, right in zip(*np.triu_indices(len(names), 1), strict=True):
        if abs(means.iloc[left] - means.iloc[right]) < ALIKE:
            tables.append(_differences(board, names[left], names[right]))
    if not tables:
        raise UserError(f"no two models of these results have means within {ALIKE:g} point of each other")
    found = [spread_of(table, list(board.types)) for table in tables]
    seeded = [own for own, table in zip(found, tables, strict=True) if min(table.shape) > 1]
    spread, source = usual_spread(found), f"the median over {len(found)} pairs of models with like means"
    if seeded:  # a pair of one seed each shows nothing of seeds, rather than that they add nothing
        of_seeds = usual_spread(seeded)
        spread = replace(spread, seed=of_seeds.seed, rest=of_seeds.rest)
        source += f"; that of seeds over {len(seeded)} of them" if len(seeded) < len(found) else ""
    else:  # a task's part then holds what a seed adds to it
        spread = replace(spread, seed=ASSUMED.seed, rest=0.0)
        source += "; that of seeds is assumed, since no pair has several"
    return spread, source


def _differences(board: Board, left: str, right: str) -> np.ndarray:
    """Tasks × seeds that both models have; their means where they share fewer than two seeds."""
    first, second = board.seeds.get(left), board.seeds.get(right)
    if first is not None and second is not None:
        both = (second - first).dropna()
        if len(both) > 1:
            return np.asarray(both).T
    return np.asarray(board.scores.loc[right] - board.scores.loc[left])[:, None]


def as_text(designs: Sequence[Planned], spread: Spread, source: str, points: float, alpha: float) -> str:
    """Two tables: what each benchmark decides as planned, and what would decide so many points."""
    decided = [
        (
            d.name, f"{len(d.types)}", f"{len(set(d.types))}", f"{d.seeds}",
            *(_points(d.decides(spread, alpha, over)) for over in ("tasks", "seeds")),
        )
        for d in designs
    ]  # fmt: skip
    needed = [(d.name, *needs(d, spread, points, alpha)) for d in designs]
    return "\n".join([
        f"Differences scatter by {spread.task:.2f} points between tasks of a type, {spread.type:.2f} between "
        f"types, {spread.seed:.2f} between seeds, {spread.rest:.2f} besides ({source}).",
        "",
        f"The least difference that is found where there is one, and excluded where there is none, "
        f"in {CHANCE:.0%} of runs:",
        "",
        *_table([HEADS, *decided]),
        "",
        f"What decides {points:g} points with all else as planned:",
        "",
        *_table([NEEDED, *needed]),
    ])  # fmt: skip


def needs(design: Planned, spread: Spread, points: float, alpha: float) -> tuple[str, str, str]:
    """How many seeds, or tasks, decide so many points."""

    def with_seeds(count: int, over: str) -> float:
        return Planned(design.name, design.types, count).decides(spread, alpha, over)

    return (
        _least(lambda n: with_seeds(n, "tasks") <= points, 1, MOST_SEEDS, "seeds"),
        _least(lambda n: design.with_tasks(n).decides(spread, alpha) <= points, 2, MOST_TASKS, "tasks"),
        _least(lambda n: with_seeds(n, "seeds") <= points, 2, MOST_SEEDS, "seeds"),
    )


def _least(enough: Callable[[int], bool], low: int, high: int, what: str) -> str:
    """The least number that is enough, by halving; or that none is."""
    if not enough(high):
        return f"over {high} {what}"
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return f"{low}"


def of_claims(study: Study, designs: Sequence[Planned], spread: Spread) -> str:
    """How often claims of equal scores hold if there is no gain, as if their tests were independent."""
    recipe, lines = _main_recipe(study), [""]
    for name, claim in study.claims.all().items():
        chances = [
            _chance(design, test, spread, study.claims.alpha)
            for test in claim.tests
            for design in designs
            if test.benchmark in ("", design.name)
            for pair in study.pairs
            if pair.embed and not pair.path and _selects(test, pair)
            if all(trains(study, recipe, side) for side in (pair.left, pair.right))
        ]
        if chances and all((test.statistic, test.rule) == ("gain", "equivalent") for test in claim.tests):
            margin = f"{len(chances)} tests within ± {claim.tests[0].threshold:g}"
            lines.append(f"Without any gain, {name} ({margin}) holds in {np.prod(chances):.0%} of runs.")
    return "\n".join(lines)


def _selects(test: ClaimTest, pair: Pair) -> bool:
    of_kind = pair.kind == test.kind or (test.kind == "any" and not is_control(pair.kind))
    return of_kind and set(test.tagged) <= set(pair.tags) and not set(test.untagged) & set(pair.tags)


def _chance(design: Planned, test: ClaimTest, spread: Spread, alpha: float) -> float:
    estimate = expected(spread, design.types, design.seeds, test.over)
    if not np.isfinite(estimate.error):
        return 0.0
    return chance_within(0.0, test.threshold, estimate.error, estimate.freedom, alpha)


def _points(value: float) -> str:
    return f"± {value:.2f}" if np.isfinite(value) else "nothing"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
