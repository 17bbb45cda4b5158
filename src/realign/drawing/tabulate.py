"""Tables as CSV (raw numbers), Markdown and LaTeX (booktabs): one content, three forms."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from realign.artifacts.command import Job
from realign.plates.plate import Plate, named
from realign.results.tidy import Tidy
from realign.study.drawing import DrawPlate

ABSENT = "–"
MARK = "†"
PROBABILITY = "p"  # the look of a p-value


@dataclass(frozen=True)
class Column:
    """A column: its key in the rows, its title, how numbers look, and an interval's ends if any.

    An optional one is left out where no row has a value for it.
    """

    key: str
    title: str
    spec: str = ""
    low: str = ""
    high: str = ""
    optional: bool = False

    def show(self, row: dict[str, Any]) -> str:
        """The cell as people read it."""
        value: Any = row.get(self.key)
        if _absent(value):
            return ABSENT
        if self.spec == PROBABILITY:
            return f"{value:.3f}" if value >= 0.0005 else "< 0.001"
        if not self.spec:
            return str(value)
        text = f"{value:{self.spec}}"
        if self.low and not (_absent(row.get(self.low)) or _absent(row.get(self.high))):
            text += f" [{row[self.low]:{self.spec}}, {row[self.high]:{self.spec}}]"
        return text.replace("-", "−")


def _absent(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))


@dataclass
class Table:
    """Columns, rows of raw values, and notes; a row with `kind: sft` is marked."""

    columns: Sequence[Column]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = [c for c in self.columns if not c.optional or self.has(c.key)]

    def has(self, key: str) -> bool:
        """Whether any row has a value under that key."""
        return any(not _absent(row.get(key)) for row in self.rows)

    def cells(self) -> Iterator[list[str]]:
        """The rows as people read them."""
        for row in self.rows:
            shown = [column.show(row) for column in self.columns]
            if row.get("kind") == "sft" and shown:
                shown[0] += f" {MARK}"
            yield shown

    def all_notes(self) -> list[str]:
        """The notes, with the mark of SFT rows explained where one is marked."""
        marked = any(row.get("kind") == "sft" for row in self.rows)
        return ([f"{MARK} SFT pair."] if marked else []) + self.notes

    def frame(self) -> pd.DataFrame:
        """Raw values, with the ends of intervals as columns of their own."""
        keys = [k for c in self.columns for k in (c.key, c.low, c.high) if k]
        extra = [k for k in ("kind",) if any(k in r for r in self.rows) and k not in keys]
        return pd.DataFrame(
            [{k: r.get(k) for k in [*keys, *extra]} for r in self.rows], columns=[*keys, *extra]
        )

    def markdown(self, title: str, caption: str) -> str:
        """The table in Markdown."""
        lines = [f"**{title}** {caption}", ""]
        lines.append("| " + " | ".join(_pipe(c.title) for c in self.columns) + " |")
        lines.append("|" + "|".join(" --- " if not c.spec else " ---: " for c in self.columns) + "|")
        lines += ["| " + " | ".join(map(_pipe, cells)) + " |" for cells in self.cells()]
        if not self.rows:
            lines.append("| " + " | ".join(["nothing measured yet", *[""] * (len(self.columns) - 1)]) + " |")
        return "\n".join([*lines, "", *self.all_notes()]).rstrip() + "\n"

    def latex(self, name: str, title: str, caption: str) -> str:
        """The table in LaTeX, for booktabs."""
        align = "".join("r" if c.spec else "l" for c in self.columns)
        lines = [
            r"\begin{table}[t]",
            r"  \centering",
            f"  \\caption{{{_tex(title)}. {_tex(caption)}}}",
            f"  \\label{{tab:{name.removeprefix('table_')}}}",
            f"  \\begin{{tabular}}{{{align}}}",
            r"    \toprule",
            "    " + " & ".join(_tex(c.title) for c in self.columns) + r" \\",
            r"    \midrule",
        ]
        lines += ["    " + " & ".join(map(_tex, cells)) + r" \\" for cells in self.cells()]
        lines += [r"    \bottomrule", r"  \end{tabular}"]
        if notes := self.all_notes():
            lines.append(r"  \par\smallskip\footnotesize " + _tex(" ".join(notes)))
        return "\n".join([*lines, r"\end{table}"]) + "\n"


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--",
    "†": r"$\dagger$", "Δ": r"$\Delta$", "…": r"\dots{}", "→": r"$\to$", "−": "$-$", "τ": r"$\tau$",
    "<": "$<$", ">": "$>$", "≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$", "÷": r"$\div$", "⁻": "$^-$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)


def publishing(
    make: Callable[[DrawPlate, Tidy, list[Path]], Table], plates: Iterable[Plate]
) -> Callable[[Job[DrawPlate]], None]:
    """The work of a table's command: make it from a job's tidy results, and write its three forms."""

    def run(job: Job[DrawPlate]) -> None:
        asked = job.settings
        plate = named(plates, asked.plate)
        table = make(asked, Tidy(job.inputs_of("tidy")), job.inputs_of("reference"))
        if asked.synthetic:
            table.notes.append("SYNTHETIC RESULTS: nothing here was measured.")
        table.frame().to_csv(job.output("csv"), index=False, float_format="%.6g")
        md = table.markdown(plate.heading, plate.caption)
        job.output("md").write_text(md, encoding="utf-8")
        tex = table.latex(plate.name, plate.title, plate.caption)
        job.output("tex").write_text(tex, encoding="utf-8")
        job.note(rows=len(table.rows))

    return run
