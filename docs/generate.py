"""What the manual says of the code is made from the code: `python docs/generate.py --write`, or `--check`.

docs/api.md holds the signatures and docstrings of what is meant to be called; the diagram in
docs/architecture.md holds the rooms and who imports whom. Both are read from the syntax trees. The table of
measures in docs/hrsa.md is read from `realign.measures.table`, which imports nothing, so this costs no time.
"""

import ast
import sys
from collections.abc import Iterator
from math import inf, log, pi
from pathlib import Path

from realign.measures.table import MEASURES

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "realign"
STAGES = ("backbones", "mining", "training", "evaluation", "states", "hrsa", "claims", "drawing", "report")
SHARED = ("study", "artifacts", "results", "text", "engine", "vectors", "embedder")
AROUND = ("plan", "runs", "ranking", "tools")  # know the stages, and no stage knows them
MARKS = "<!-- made by docs/generate.py -->\n", "<!-- end -->"

# What is meant to be called from outside: module → names, in the order of the page.
PUBLIC = {
    "tools.compared": ("compare", "Comparison"),
    "stages": ("run",),
    "hrsa.api": ("compare",),
    "states.reader": ("StatesFile",),
    "embedder.model": ("Embedder",),
    "embedder.export": ("export",),
    "text.pairs": ("PairRow", "read_pairs", "write_pairs"),
    "text.problems": ("Problem", "read_problems", "score", "has_format"),
    "study.load": ("load_study",),
    "study.study": ("Study",),
    "artifacts.command": ("Command", "Input", "Output", "Job", "execute"),
    "artifacts.errors": ("UserError",),
    "artifacts.manifest": ("content_hash", "read_manifest"),
    "artifacts.provenance": ("read_provenance", "lineage"),
}


def api() -> str:
    """The reference of the public interface."""
    lines = [
        "# Python interface",
        "",
        "Made by `make docs` from the docstrings; do not edit. This is what is meant to be called from",
        "outside; all else may change without notice. `realign.compare` is a short way to the first, and",
        "`realign.hrsa.compare` to that of `realign.hrsa.api`.",
    ]
    for module, names in PUBLIC.items():
        tree = _tree(SRC / (module.replace(".", "/") + ".py"))
        lines += ["", f"## realign.{module}", "", ast.get_docstring(tree) or ""]
        found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for name in names:
            lines += _described(found[name])
    return "\n".join(lines) + "\n"


def _described(node: ast.FunctionDef | ast.ClassDef, inside: str = "") -> Iterator[str]:
    level = "####" if inside else "###"
    yield from ("", f"{level} `{inside}{_signature(node)}`", "", ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        fields = [
            m for m in node.body if isinstance(m, ast.AnnAssign) and not ast.unparse(m.target).startswith("_")
        ]
        if fields and node.name != "Study":  # a study's sections are docs/configuration.md
            yield from (
                "",
                *(f"- `{ast.unparse(field.target)}: {ast.unparse(field.annotation)}`" for field in fields),
            )
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                yield from _described(member, f"{node.name}.")


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        start = next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"), None)
        return f"class {node.name}" + (_arguments(start) if start else "")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = {ast.unparse(d) for d in node.decorator_list}
    return node.name if "property" in decorators else f"{node.name}{_arguments(node)}{returns}"


def _arguments(node: ast.FunctionDef) -> str:
    text = ast.unparse(node.args)
    words = [word for word in text.split(", ") if word not in ("self", "cls")]
    return f"({', '.join(words)})"


def rooms() -> str:
    """The rooms and who imports whom, as a diagram; `study` and `artifacts`, which all import, in one box."""
    used = {room: _imported(room) - {room, "study", "artifacts"} for room in (*SHARED, *STAGES, *AROUND)}
    lines = ["```mermaid", "flowchart BT"]
    for name, title, members in (
        ("around", "around the stages", AROUND),
        ("stages", "stages, which meet through files", STAGES),
        ("shared", "shared rooms", SHARED[2:]),
    ):
        lines.append(f'  subgraph {name} ["{title}"]')
        lines += [f"    {room}" for room in members]
        lines.append("  end")
    lines += ['  subgraph below ["below all others"]', "    study", "    artifacts", "  end"]
    for room in (*SHARED[2:], *STAGES, *AROUND):
        lines += [f"  {room} --> {other}" for other in sorted(used[room] & {*SHARED, *STAGES, *AROUND})]
    return "\n".join([*lines, "```", ""])


def measures() -> str:
    """The table of measures: each number that is declared, its range and the meaning of its interval."""
    lines = [
        "| family | measure | level | number | range | its interval is about |",
        "|---|---|---|---|---|---|",
    ]
    family = ""
    for measure in MEASURES.values():
        first = [measure.family if measure.family != family else "", f"`{measure.name}`", measure.level]
        family = measure.family
        for name, statistic in measure.statistics.items():
            about = statistic.estimand.replace("|", "\\|") or "no interval"
            lines.append(f"| {' | '.join([*first, f'`{name}`', _range(*statistic.bounds), about])} |")
            first = ["", "", ""]
    return "\n".join([*lines, ""])


def _range(low: float, high: float) -> str:
    shown = {pi / 2: "π/2", log(2): "ln 2", 0.0: "0", 1.0: "1", -1.0: "−1"}
    if high == inf:
        return "" if low == -inf else f"{shown[low]} or more"
    return f"{shown[high]} or less" if low == -inf else f"{shown[low]} to {shown[high]}"


def _imported(room: str) -> set[str]:
    names: set[str] = set()
    for path in (SRC / room).rglob("*.py"):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("realign.")}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def pages() -> dict[Path, str]:
    """Every page that is made, or holds a part that is, and what it must hold."""
    made = {ROOT / "docs" / "api.md": api()}
    for name, part in (("architecture.md", rooms()), ("hrsa.md", measures())):
        page = ROOT / "docs" / name
        before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
        made[page] = before + MARKS[0] + part + MARKS[1] + rest.split(MARKS[1], 1)[1]
    return made


def main(words: list[str]) -> int:
    """Write the pages, or say which are not as they would be written."""
    made = pages()
    stale = [p for p, text in made.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if words == ["--write"]:
        for path in stale:
            path.write_text(made[path], encoding="utf-8")
        return 0
    if words == ["--check"]:
        for path in stale:
            print(f"out of date: {path.relative_to(ROOT)}; run make docs", file=sys.stderr)
        return int(bool(stale))
    print("usage: python docs/generate.py --write | --check", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
