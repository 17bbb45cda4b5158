"""`realign rank`: which of these models are better, and which can't be told apart on these tasks."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from realign.ranking.board import Board, read_board
from realign.ranking.separate import Design, Differences, compare_all, critical, rank_intervals, ties


def main(words: Sequence[str]) -> int:
    """Parse the command line, print the ranking, and write it where asked."""
    given = _parser().parse_args(list(words))
    board = read_board(given.results, given.benchmark, given.tasks)
    design = Design.of(list(board.types), list(board.families))
    found = compare_all(board.scores.to_numpy(), design, seed=given.seed)
    ranks = ranking(board, design, found, given.alpha)
    print(as_text(board, design, ranks, found, given.alpha))
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        ranks.to_csv(given.out / "ranks.csv", index=False, float_format="%.6g")
        pairs(board, found).to_csv(given.out / "pairs.csv", index=False, float_format="%.6g")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "realign rank",
        allow_abbrev=False,
        description="Rank models by benchmark results, and say which of them can be told apart.",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="folders of mteb's JSON files, or results of this project (results/STUDY)",
    )
    parser.add_argument(
        "--benchmark", default="", help="take this benchmark's tasks, splits and subsets only"
    )
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="take these tasks only")
    parser.add_argument("--alpha", type=_level, default=0.05, help="chance of one or more false separations")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write ranks.csv and pairs.csv here")
    return parser


def _level(text: str) -> float:
    level = float(text)
    if not 0.001 <= level <= 0.5:
        raise argparse.ArgumentTypeError("a level between 0.001 and 0.5")
    return level


def ranking(board: Board, design: Design, found: Differences, alpha: float) -> pd.DataFrame:
    """One row a model, best first: score, ranks that are possible, and the groups of ties it is in."""
    scores = board.scores.to_numpy() @ design.weights
    order = np.argsort(-scores, kind="stable")
    intervals = rank_intervals(found, len(order), alpha)
    letters: dict[int, list[str]] = {}
    for number, group in enumerate(ties(found, [int(m) for m in order], alpha), 1):
        for model in group:
            letters.setdefault(model, []).append(str(number))
    return pd.DataFrame(
        {
            "model": board.scores.index[order],
            "score": scores[order],
            "rank": np.arange(1, len(order) + 1),
            "rank_from": intervals[order, 0],
            "rank_to": intervals[order, 1],
            "groups": [" ".join(letters[int(m)]) for m in order],
        }
    )


def pairs(board: Board, found: Differences) -> pd.DataFrame:
    """One row a pair: the difference with its own 95 % interval, and p adjusted over all pairs."""
    half = critical(found.freedom, 0.95) * found.error
    return pd.DataFrame(
        {
            "better": board.scores.index[found.first],
            "worse": board.scores.index[found.second],
            "difference": found.value,
            "ci_low": found.value - half,
            "ci_high": found.value + half,
            "se": found.error,
            "df": found.freedom,
            "p_adjusted": found.p,
        }
    )


def as_text(board: Board, design: Design, ranks: pd.DataFrame, found: Differences, alpha: float) -> str:
    """The ranking for a terminal."""
    width = min(max(len(name) for name in ranks["model"]), 48)
    lines = [f"{'rank':>4}  {'possible':>8}  {'score':>6}  {'model':<{width}}  tied in groups"]
    for row in ranks.itertuples():
        possible = str(row.rank_from) if row.rank_from == row.rank_to else f"{row.rank_from}–{row.rank_to}"
        lines.append(
            f"{row.rank:>4}  {possible:>8}  {row.score:>6.2f}  {row.model[:width]:<{width}}  {row.groups}"
        )
    apart = neighbours_apart(board, design, found, alpha)
    tasks, families = board.scores.shape[1], len(design.type_of_family)
    lines += [
        "",
        f"{apart} of {len(ranks) - 1} neighbours can be told apart (level {alpha:g} over all "
        f"{len(found.p)} pairs).",
        f"{tasks} tasks of {families} families and {board.types.nunique()} types. A difference counts when "
        "another draw of tasks of these types would show it too.",
    ]
    if board.left_out:
        name, lacking = next(iter(board.left_out.items()))
        lines.append(
            f"Left out, since they lack tasks: {len(board.left_out)} models, such as {name} ({lacking[0]})."
        )
    return "\n".join(lines)


def neighbours_apart(board: Board, design: Design, found: Differences, alpha: float) -> int:
    """How many models are separated from the one right below them."""
    order = np.argsort(-(board.scores.to_numpy() @ design.weights), kind="stable")
    neighbours = set(zip(order[:-1].tolist(), order[1:].tolist(), strict=True))
    pairs_apart = zip(
        found.first[found.p < alpha].tolist(), found.second[found.p < alpha].tolist(), strict=True
    )
    return sum(pair in neighbours for pair in pairs_apart)
