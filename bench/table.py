"""docs/benchmarks.md, and a table in docs/claims.md, from bench/results/*.json: `python -m bench.table --write`, or `--check`."""

import operator
import sys
from itertools import groupby

from bench.results import ROOT, kept

PAGE = ROOT / "docs" / "benchmarks.md"
CLAIMS = ROOT / "docs" / "claims.md"
MARKS = "<!-- made by bench/table.py -->\n", "<!-- end -->"
NOTHING = "\nNo result is kept yet.\n\n"
OPENING = """# Benchmarks

Made by `python -m bench.table --write` from `bench/results/*.json`; do not edit by hand.

`make bench` runs every benchmark at the sizes that the manual tells of. `python -m bench NAME OPTIONS` runs one, and keeps
its numbers in `bench/results/` with the commit and the machine. A ratio compares two ways of doing the
same work within one run on one machine; its parts are medians. Absolute times hold for the machine named.
The load is that of the machine just before: a load near 0 means that nothing else ran.
"""
TITLES = {
    "coverage": "Coverage of intervals",
    "dag": "Planning",
    "evaluation": "Evaluation",
    "extraction": "Extraction of states",
    "footprint": "Import times and memory",
    "gpu_check": "Day one on a GPU",
    "hrsa": "Similarity analysis",
    "mining": "Mining",
    "scale": "Past one machine",
    "single_measures": "Single measures",
    "training": "Training",
    "verdicts": "Verdicts in worlds of known truth",
}


def page(results: list[dict]) -> str:
    """The whole page."""
    parts = [OPENING, "## Aims\n" + aims(results)] if results else [OPENING + NOTHING]
    for name, group in groupby(
        sorted(results, key=lambda r: (r["benchmark"], r["command"])), lambda r: r["benchmark"]
    ):
        parts.append(f"## {TITLES.get(name, name)}\n")
        parts += [_section(result) for result in group]
    return "\n".join(parts)


def aims(results: list[dict]) -> str:
    """Every number that has an aim, reached or not; of times those by the clock."""
    rows = [(r["benchmark"], row) for r in results for row in r["rows"] if row["aim"]]
    rows = [(name, row) for name, row in rows if not row["measure"].startswith("processor time")]
    lines = ["", "| | case | measure | value | aim | |", "|---|---|---|---|---|---|"]
    for name, row in rows:
        lines.append(
            f"| {TITLES.get(name, name)} | {row['case']} | {row['measure']} | {shown(row)} | {row['aim']} "
            f"| {'reached' if reached(row) else '**missed**'} |"
        )
    return "\n".join([*lines, ""])


def reached(row: dict) -> bool:
    """Whether a number is what it should be, by the first bound of its aim."""
    sign, bound = row["aim"].split(",")[0].split()
    compare = {"≤": operator.le, "<": operator.lt, "≥": operator.ge, ">": operator.gt}[sign]
    return bool(compare(row["value"], float(bound)))


def shown(row: dict) -> str:
    """A value with its unit, and the range of its rounds where there were several."""
    value = f"{number(row['value'])} {row['unit']}".rstrip()
    return value + " ({} to {})".format(*map(number, row["between"])) if row.get("between") else value


def number(value: float) -> str:
    """As many digits as a reader wants: three that count, whole numbers whole."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value and abs(value) >= 1e-3 else f"{value:.2g}"


def _section(result: dict) -> str:
    m = result["machine"]
    where = f"{m['gpu'] + ', ' if m['gpu'] else ''}{m['processor']}, {m['cores']} cores, {m['memory_gb']} GB"
    lines = [
        f"`{result['command']}`: {where}; Python {m['python']}, torch {m['packages']['torch']}; "
        f"commit {result['commit'][:10]}, {result['date']}; load {result['load_before']}; took {result['seconds']:,} s.",
        "",
        "| case | measure | value | aim |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(f"| {row['case']} | {row['measure']} | {shown(row)} | {row['aim']} |")
    return "\n".join(lines) + "\n"


def verdicts(results: list[dict]) -> str:
    """How often each claim holds, fails or stays undecided in each world, and how often that is wrong."""
    lines = ["| world | claim | it is | holds | fails | undecided | false |", "|---|---|---|--:|--:|--:|--:|"]
    for result in (r for r in results if r["benchmark"] == "verdicts"):
        cases = groupby((row for row in result["rows"] if not row["aim"]), lambda row: row["case"])
        for case, rows in cases:
            cells = [*case.split("; "), *(f"{row['value']:g} %" for row in rows)]
            lines.append(f"| {' | '.join(cells)} |")
    if len(lines) == 2:
        return "No table stands here until results of `python -m bench verdicts` are kept.\n"
    return "\n".join(lines) + "\n"


def within_marks(page: str, made: str) -> str:
    """A page with what stands between the marks made anew."""
    before, rest = page.split(MARKS[0])
    return before + MARKS[0] + made + MARKS[1] + rest.split(MARKS[1], 1)[1]


def main(words: list[str]) -> int:
    """Write the pages, or say whether they are as they would be written."""
    results = kept()
    claims = within_marks(CLAIMS.read_text(encoding="utf-8"), verdicts(results))
    made = {PAGE: page(results), CLAIMS: claims}
    stale = [p for p, text in made.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if words == ["--write"]:
        for path in stale:
            path.write_text(made[path], encoding="utf-8")
        return 0
    if words == ["--check"]:
        for path in stale:
            print(f"out of date: {path.relative_to(ROOT)}; run make docs", file=sys.stderr)
        return int(bool(stale))
    print("usage: python -m bench.table --write | --check", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
