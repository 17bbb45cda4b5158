"""`realign.compare(base, tuned)`: the command `realign compare` from Python, and its answer as an object."""

import argparse
import html
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from realign.artifacts.command import UserError
from realign.measures.table import MEASURES
from realign.results.tidy import Tidy
from realign.study.load import load_study
from realign.tools.compare import measure_files, parser, study_file, write_texts

SIMILARITIES = ("coordinates", "geometry")  # the levels whose numbers have a place between 0 and 1
BAR = "display:inline-block;width:8em;height:.7em;background:#8884;position:relative;vertical-align:middle"
FILLED = "position:absolute;left:0;top:0;bottom:0;width:{:.0%};background:#2a7ab0"
TICK = "position:absolute;top:-.2em;bottom:-.2em;left:{:.0%};border-left:2px solid currentColor"


@dataclass(frozen=True)
class Comparison:
    """The answer of a comparison: `summary` has a row for each pair of models and measure."""

    study: Path
    summary: pd.DataFrame

    @property
    def measures(self) -> pd.DataFrame:
        """All measures of the study, a row a number (docs/formats.md)."""
        return Tidy(measure_files(load_study(self.study), self.study.parent)).measures

    def report(self) -> Path:
        """The page with figures and verdicts."""
        return self.study.parent / "results" / self.study.stem / "report.html"

    def __str__(self) -> str:
        """The summary as text."""
        return self.summary.to_string(index=False)

    def _repr_html_(self) -> str:
        """A table for notebooks; bars show similarities, and a tick where random weights are."""
        head = ("level", "measure", "texts", "value", "", "95 % interval", "reads as")
        parts = []
        for pair, rows in self.summary.groupby("pair", sort=False):
            cells = [_row(row) for row in rows.to_dict("records")]
            titles = "".join(f"<th style='text-align:left'>{title}</th>" for title in head)
            left, _, right = str(pair).partition("--vs--")
            parts.append(
                f"<table><caption>{html.escape(left)} → {html.escape(right)}</caption>"
                f"<thead><tr>{titles}</tr></thead><tbody>{''.join(cells)}</tbody></table>"
            )
        parts.append(
            f"<p>The tick marks random weights. Report: <code>{html.escape(str(self.report()))}</code></p>"
        )
        return "".join(parts)


def compare(
    *models: str | Path,
    texts: str | Path | Sequence[str] | None = None,
    labels: str | None = None,
    out: str | Path = ".",
    quick: bool = False,
    **options: Any,
) -> Comparison:
    """Say what post-training did to a model: the first one before it, one or more after it.

    `texts` is a file or a list of texts. All options of `realign compare` can be given by name, such as
    `column="body"`, `tokens=2000`, `kind="rlvr"`, `levels=["geometry"]` and `cores=4`.
    The jobs run in processes of their own, and what they print goes to standard error.
    """
    words = [*map(str, models), "--out", str(out)]
    if texts is not None and not isinstance(texts, str | Path):
        own = Path(out) / "compare-texts.jsonl"
        write_texts(own, texts)
        texts = own
    options |= {"texts": texts, "labels": labels}
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            several = isinstance(value, list | tuple)
            words += [f"--{name}", *map(str, value if several else [value])]
    words += ["--quick"] if quick else []
    asked = _parsed(words)
    command = [sys.executable, "-m", "realign.cli", "compare", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError("the comparison did not end; what is printed above says why")
    return Comparison(study_file(asked).resolve(), pd.DataFrame(json.loads(done.stdout)))


def _parsed(words: list[str]) -> argparse.Namespace:
    """The options as the command reads them; a mistake is an error, not the end of the interpreter."""
    own = parser()
    own.exit_on_error = False
    try:
        return own.parse_args(words)
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(f"realign.compare takes the options of `realign compare`: {error}") from None


def _row(line: dict[str, Any]) -> str:
    def shown(value: float | None) -> str:
        return "–" if value is None or not np.isfinite(value) else f"{value:.3f}"

    bar = ""
    if line["level"] in SIMILARITIES and line["value"] is not None:
        tick = line["random_weights"]
        bar = f"<span style='{BAR}'><span style='{FILLED.format(max(0, line['value']))}'></span>"
        if tick is not None and np.isfinite(tick):
            bar += f"<span style='{TICK.format(min(1, max(0, tick)))}'></span>"
        bar += "</span>"
    cells = (
        line["level"], MEASURES[line["measure"]].title, line["corpus"], shown(line["value"]), bar,
        f"{shown(line['low'])} to {shown(line['high'])}", html.escape(line["reads"]),
    )  # fmt: skip
    return "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>"
