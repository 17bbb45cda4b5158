"""`realign diff`: which numbers moved between two runs, by more than their intervals explain.

Rows of the two runs' tidy tables are matched by what they measure. A number moved when its
difference lies outside the two intervals taken together; one without intervals moved when the
difference is more than rounding.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from realign.artifacts.command import UserError
from realign.engine.logs import start_logging
from realign.report.beside import side_by_side
from realign.results.columns import COLUMNS
from realign.results.tidy import read_table
from realign.tools.archive import opened

log = logging.getLogger(__name__)

# Numbers of a run that are no results of it: they differ from machine to machine.
INCIDENTAL = {"tokens_per_second", "memory_gb"}
VALUES = ("value", "ci_low", "ci_high", "se", "df", "n", "evidence", "mteb_version", "file", "study", "tags")


def load(results: Path, kind: str) -> pd.DataFrame:
    """One tidy table of a run, whole."""
    place = results / "tidy"
    if not place.is_dir():
        raise UserError(f"{results}: holds no folder `tidy`; give a folder of results or an archive")
    single = place / f"{kind}.parquet"
    return read_table(kind, [single] if single.is_file() else sorted((place / kind).rglob("*.parquet")))


def compare(left: pd.DataFrame, right: pd.DataFrame, kind: str, rounding: float = 1e-9) -> pd.DataFrame:
    """The matched rows with both values, their difference and whether it is more than noise.

    Rows that only one side has are kept with a hole, and count as moved.
    """
    keys = [c for c in COLUMNS[kind] if c not in VALUES]
    if kind == "claims":
        keys = ["claim", "pair", "statistic", "threshold"]
        columns = ["value", "ci_low", "ci_high", "verdict"]
    else:
        columns = [c for c in ("value", "ci_low", "ci_high") if c in left]
    sides = [frame.assign(order=frame.groupby(keys, dropna=False).cumcount()) for frame in (left, right)]
    both = sides[0][[*keys, "order", *columns]].merge(
        sides[1][[*keys, "order", *columns]],
        on=[*keys, "order"],
        how="outer",
        suffixes=("_a", "_b"),
        indicator=True,
    )
    both["difference"] = both["value_b"] - both["value_a"]
    noise = _half(both, "a") ** 2 + _half(both, "b") ** 2
    allowed = np.maximum(
        np.sqrt(noise), rounding * np.maximum(1, both[["value_a", "value_b"]].abs().max(axis=1))
    )
    one_sided = both["_merge"] != "both"
    holes = both["value_a"].isna() != both["value_b"].isna()
    both["moved"] = one_sided | holes | (both["difference"].abs() > allowed)
    if kind == "claims":
        both["moved"] |= both["verdict_a"].fillna("") != both["verdict_b"].fillna("")
    both["only_in"] = both.pop("_merge").map({"left_only": "a", "right_only": "b", "both": ""}).astype(str)
    return both.drop(columns="order").assign(table=kind)


def _half(both: pd.DataFrame, side: str) -> pd.Series:
    """Half the width of a side's interval; nothing where it has none."""
    if f"ci_low_{side}" not in both:
        return pd.Series(0.0, index=both.index)
    half = (both[f"ci_high_{side}"] - both[f"ci_low_{side}"]).astype(float) / 2
    return half.where(np.isfinite(half), 0.0)


def compare_runs(left: Path, right: Path, kinds: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Every tidy table of two runs, compared."""
    found = {}
    for kind in kinds:
        a, b = load(left, kind), load(right, kind)
        if "metric" in a:
            a, b = (f[~f["metric"].isin(INCIDENTAL)] for f in (a, b))
        if len(a) or len(b):
            found[kind] = compare(a, b, kind)
    return found


def plot(both: pd.DataFrame, kind: str, place: Path) -> None:
    """One run against the other, number by number; those that moved stand out."""
    from matplotlib.figure import Figure

    from realign.drawing.style import FAINT, MM, role_colour, styled
    from realign.study.figures import Style

    group = "measure" if "measure" in both else "metric" if "metric" in both else "table"
    names = list(dict.fromkeys(both[group].dropna()))[:12]
    columns = min(4, max(1, len(names)))
    rows = -(-max(1, len(names)) // columns)
    style = Style()
    with styled(style):
        figure = Figure(figsize=(style.width * MM, (8 + 48 * rows) * MM), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(names) :]:
            axes.set_axis_off()
        for axes, name in zip(grid, names, strict=False):
            own = both[both[group] == name]
            still, moved = own[~own["moved"]], own[own["moved"]]
            axes.plot(
                still["value_a"], still["value_b"], ".", color=role_colour(style, "control"), markersize=3
            )
            axes.plot(moved["value_a"], moved["value_b"], "x", color=role_colour(style, "rlvr"), markersize=4)
            axes.axline((0, 0), slope=1, color=FAINT, linewidth=0.6)
            axes.set_title(f"{name}: {len(moved)} of {len(own)} moved", fontsize="small")
        figure.supxlabel("first run (a)")
        figure.supylabel("second run (b)")
        figure.savefig(place / f"{kind}.png", metadata={"Software": None})
        figure.savefig(place / f"{kind}.pdf", metadata={"CreationDate": None})


def _say(name: str, both: pd.DataFrame, shown: int) -> None:
    moved = both[both["moved"]]
    print(f"{name}: {len(moved)} of {len(both)} numbers moved beyond their intervals")
    if moved.empty:
        return
    top = moved.assign(size=moved["difference"].abs()).sort_values("size", ascending=False).head(shown)
    keep = [
        c
        for c in top
        if top[c].notna().any() and c not in ("table", "moved", "size") and not c.startswith("ci_")
    ]
    keep = [c for c in keep if c in ("value_a", "value_b", "difference") or (top[c].astype(str) != "").any()]
    print(top[keep].to_string(index=False, na_rep="", float_format=lambda v: f"{v:.4g}", max_colwidth=36))


def main(words: Sequence[str]) -> int:
    """Parse the command line and compare; the exit code is 0 whatever moved, unless --strict."""
    parser = argparse.ArgumentParser(
        "realign diff",
        description="Which numbers moved between two runs, beyond their intervals.",
        allow_abbrev=False,
    )
    parser.add_argument("a", type=Path, help="folder of results, or an archive")
    parser.add_argument("b", type=Path, help="another")
    parser.add_argument(
        "--out",
        type=Path,
        help="write the whole comparison here: CSV, plots, and figures that differ side by side",
    )
    parser.add_argument(
        "--tables", nargs="*", choices=list(COLUMNS), default=list(COLUMNS), help="these alone"
    )
    parser.add_argument("--show", type=int, default=10, help="rows shown of each table (%(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit with 3 when a number moved")
    given = parser.parse_args(list(words))
    start_logging(quiet=True)
    with opened(given.a) as left, opened(given.b) as right:
        found = compare_runs(left, right, given.tables)
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            side_by_side(left, right, (str(given.a), str(given.b)), given.out / "figures.html")
    if not found:
        raise UserError(f"{given.a} and {given.b}: neither holds tidy results")
    for kind, both in found.items():
        _say(kind, both, given.show)
        if given.out:
            both.to_csv(given.out / f"{kind}.csv", index=False, float_format="%.6g")
            plot(both, kind, given.out)
    return 3 if given.strict and any(both["moved"].any() for both in found.values()) else 0
