"""docs/benchmarks.md from bench/results/*.json: `python -m bench.table --write`, or `--check`."""

import sys
from itertools import groupby

from bench.results import ROOT, kept

PAGE = ROOT / "docs" / "benchmarks.md"
OPENING = """# Benchmarks

Made by `python -m bench.table --write` from `bench/results/*.json`; do not edit by hand.

`make bench` runs every benchmark at its default size. `python -m bench NAME OPTIONS` runs one, and keeps
its numbers in `bench/results/` with the commit and the machine. A ratio compares two ways of doing the
same work within one run on one machine; its parts are medians. Absolute times hold for the machine named.
The load is that of the machine just before: a load near 0 means that nothing else ran.
"""
TITLES = {
    "dag": "Planning",
    "evaluation": "Evaluation",
    "extraction": "Extraction of states",
    "footprint": "Import times and memory",
    "hrsa": "Similarity analysis",
    "mining": "Mining",
    "rlvr_trl": "GRPO",
    "scale": "Past one machine",
    "single_measures": "Single measures",
    "training": "Training",
}


def page(results: list[dict]) -> str:
    """The whole page."""
    parts = [OPENING]
    for name, group in groupby(
        sorted(results, key=lambda r: (r["benchmark"], r["command"])), lambda r: r["benchmark"]
    ):
        parts.append(f"## {TITLES.get(name, name)}\n")
        parts += [_section(result) for result in group]
    return "\n".join(parts)


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
        lines.append(
            f"| {row['case']} | {row['measure']} | {number(row['value'])} {row['unit']}".rstrip()
            + f" | {row['aim']} |"
        )
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> int:
    """Write the page, or say whether it is as it would be written."""
    made = page(kept())
    if words == ["--write"]:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    if words == ["--check"]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == made:
            return 0
        print("docs/benchmarks.md is out of date: python -m bench.table --write", file=sys.stderr)
        return 1
    print("usage: python -m bench.table --write | --check", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
