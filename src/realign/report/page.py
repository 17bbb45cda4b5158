"""One self-contained HTML page: question, answer, verdicts, figures, tables, what was run and is missing."""

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from realign.artifacts.command import Job
from realign.report.assets import SCRIPT, STYLE
from realign.report.facts import RunFacts, read_run
from realign.results.plates import label_of
from realign.results.tidy import read_table
from realign.results.verdicts import ALL, rule_text
from realign.study.description import Description
from realign.study.drawing import PlateText, WriteReport

esc = html.escape


def run(job: Job[WriteReport]) -> None:
    """Write the page."""
    place = job.input("study")
    description = Description.model_validate_json(place.read_text(encoding="utf-8"))
    claims = read_table("claims", job.inputs_of("claims"))
    figures = {p.stem: p for p in job.inputs_of("figures")}
    tables = {p.stem: p for p in job.inputs_of("tables")}
    notes = {p.stem: p for p in job.inputs_of("notes")}
    facts = read_run(place.parent.parent)
    known = {p.name for p in job.settings.plates}
    others = tuple(
        PlateText(name=n, label=label_of(n), title="", caption="")
        for n in (*figures, *tables)
        if n not in known
    )
    words = job.settings.model_copy(update={"plates": job.settings.plates + others})
    page = build(description, claims, figures, tables, notes, facts, words)
    job.output("html").write_text(page, encoding="utf-8")


def build(
    description: Description,
    claims: pd.DataFrame,
    figures: dict[str, Path],
    tables: dict[str, Path],
    notes: dict[str, Path],
    facts: RunFacts,
    plates: WriteReport,
) -> str:
    """The page's whole text; `plates` holds those that the study makes, drawn or not."""
    title = description.title or description.name
    shown = {kind: [p for p in plates.plates if p.name.startswith(kind)] for kind in ("figure", "table")}
    parts = [
        _head(title),
        '<p class="warning">Synthetic results: nothing on this page was measured.</p>'
        if description.synthetic
        else "",
        f"<header><h1>{esc(title)}</h1>",
        f'<p class="question">{esc(description.question)}</p>' if description.question else "",
        f'<p class="answer">{answer(claims)}</p>',
        _scope(description, facts),
        "</header>",
        _navigation(),
        "<main>",
        _section("verdicts", "Verdicts", _claims(claims)),
        _section("figures", "Figures", "".join(_figure(p, figures.get(p.name)) for p in shown["figure"])),
        _section(
            "tables",
            "Tables",
            "".join(_table(p, tables.get(p.name), notes.get(p.name)) for p in shown["table"]),
        ),
        _section("run", "What was run", _what(description, facts)),
        _section(
            "missing", "What is missing", _missing(description, facts, claims, plates, {*figures, *tables})
        ),
        "</main>",
        f"<footer>Made by Realign from the tidy results of <code>{esc(description.name)}</code>.</footer>",
        f"<script>{SCRIPT}</script></body></html>\n",
    ]
    return "\n".join(p for p in parts if p)


def _head(title: str) -> str:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(title)}</title><style>{STYLE}</style></head><body>"
    )


def _navigation() -> str:
    places = ("verdicts", "figures", "tables", "run", "missing")
    names = ("Verdicts", "Figures", "Tables", "What was run", "What is missing")
    links = "".join(f'<a href="#{p}">{n}</a>' for p, n in zip(places, names, strict=True))
    return f"<nav><div>{links}</div></nav>"


def _section(name: str, title: str, content: str) -> str:
    return f'<section id="{name}"><h2>{esc(title)}</h2>\n{content}</section>'


ANSWERS = {
    "holds": "No: on every benchmark the tuned backbones' embedders score the same within the margin.",
    "fails": "Scores differ by more than the margin",
    "undecided": "Undecided at this sample size: the intervals are too wide for the stated margin.",
}


NOT_ASKED = "Not asked here: the study evaluates no embedders of a tuned backbone beside those of its base."


def answer(claims: pd.DataFrame) -> str:
    """The study's answer from the verdict on the null effect, with its numbers, and the count of verdicts."""
    whole = claims[claims["pair"] == ALL].set_index("claim")["verdict"]
    if whole.empty:
        return "No claim has been judged yet."
    told = ""
    if "null_effect" in whole:
        tests = claims[(claims["claim"] == "null_effect") & (claims["pair"] != ALL)]
        beyond = "; ".join(_gain(t) for t in tests.itertuples() if t.verdict == "fails")
        asked = ANSWERS[whole["null_effect"]] if len(tests) else NOT_ASKED
        told = asked + (f": {beyond}. " if beyond else " ") + "This is the claim null_effect. "
    words = {"holds": "hold", "fails": "fail", "undecided": "undecided"}
    counts = ", ".join(f"{(whole == v).sum()} {w}" for v, w in words.items() if (whole == v).any())
    return esc(f"{told}Of {len(whole)} claims: {counts}.")


def _gain(test: Any) -> str:
    """A gain beyond the margin in words: which way, where, how much."""
    way = "higher" if test.value > 0 else "lower"
    interval = f" [{test.ci_low:+.2f}, {test.ci_high:+.2f}]" if test.ci_low == test.ci_low else ""
    return f"{way} for {test.pair} on {test.statistic.removeprefix('gain, ')}, {test.value:+.2f}{interval}"


def _scope(description: Description, facts: RunFacts) -> str:
    """What the study says that it can and cannot show, and the sizes that its verdicts rest on."""
    compared = [p for p in description.pairs if p.kind != "control"]
    kinds = Counter(p.kind.upper() for p in compared)
    tasks = {task for inside in description.benchmarks.values() for task in inside}
    largest = max(facts.parameters.values(), default=0)
    split = ", ".join(f"{n} {k}" for k, n in kinds.items())
    sizes = [
        f"{_count(len(compared), 'pair')} of backbones ({split})",
        f"at most {largest:,.0f} parameters" if largest else "",
        _count(len(description.seeds), "contrastive seed"),
        _count(len(tasks), "benchmark task"),
        _count(len(description.corpora), "probe corpus", "probe corpora"),
    ]  # fmt: skip
    told = f"<p>{esc(description.scope)}</p>" if description.scope else ""
    return (
        f'<aside class="scope"><h2>What this study can and cannot show</h2>{told}'
        f'<p class="faint">Its verdicts rest on {esc(", ".join(s for s in sizes if s))}. '
        "A claim left undecided is no evidence for or against it.</p></aside>"
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _claims(claims: pd.DataFrame) -> str:
    if claims.empty:
        return "<p>No claim has been judged.</p>"
    level = (
        "Many tests: p-values are corrected by Holm over all tests of a claim, not over claims. A claim "
        "holds when all of its tests hold, fails when one of them does, and is undecided otherwise. An "
        "interval is the one that its test, taken alone, decides by: two-sided and of 90 % where the level "
        "is 0.05, of 95 % where the rule is 'other than'."
    )
    blocks = [f'<p class="faint">{level}</p><div class="claims">']
    for name, rows in claims.groupby("claim", sort=False):
        whole = rows[rows["pair"] == ALL].iloc[0]
        tests = rows[rows["pair"] != ALL]
        about = json.loads(whole["evidence"])
        counts = ", ".join(f"{about[v]} {v}" for v in ("holds", "fails", "undecided") if about.get(v))
        blocks.append(
            f'<details class="claim"><summary>{_verdict(whole["verdict"])}'
            f'<span class="says">{esc(about["says"])}</span>'
            f'<span class="faint">{esc(str(name))} · {esc(counts or "no pair selected")}{_gist(tests)}</span>'
            "</summary>"
            f"<div>{_tests(tests)}</div></details>"
        )
    return "".join(blocks) + "</div>"


def _gist(tests: pd.DataFrame) -> str:
    """A claim's deciding numbers on its folded card: of each test value, interval and rule, up to three."""
    told = []
    for t in tests.head(3).itertuples():
        interval = f" [{t.ci_low:.3f}, {t.ci_high:.3f}]" if t.ci_low == t.ci_low else ""
        rule = rule_text(json.loads(t.evidence)["rule"], t.threshold)
        numbers = f"{_number(t.value)}{interval}".replace("-", "−")
        told.append(f"{t.pair}: {numbers}, {rule}")
    more = f"; {len(tests) - 3} more" if len(tests) > 3 else ""
    return esc(" · " + "; ".join(told) + more) if told else ""


def _verdict(verdict: str) -> str:
    sign = {"holds": "✓", "fails": "✗", "undecided": "?"}[verdict]
    return f'<span class="verdict {verdict}">{sign} {verdict}</span>'


def _tests(tests: pd.DataFrame) -> str:
    heads = ("Pair", "Statistic", "Value", "Interval", "Rule", "p, holds", "p, fails", "Verdict", "Evidence")
    rows = []
    for t in tests.itertuples():
        evidence = json.loads(t.evidence)
        interval = f"{t.ci_low:.3f} to {t.ci_high:.3f}" if t.ci_low == t.ci_low else ""
        rows.append([
            (t.pair, None), (t.statistic, None), (_number(t.value), t.value), (interval, t.ci_low),
            (rule_text(evidence["rule"], t.threshold), None),
            *((_p(evidence[p]), evidence[p]) for p in ("p", "p_opposite_holm")),
            (t.verdict, None), (_evidence(evidence), None),
        ])  # fmt: skip
    return _html_table(heads, rows) if rows else '<p class="faint">No pair of this study is selected.</p>'


def _evidence(evidence: dict[str, Any]) -> str:
    skip = {"rule", "p", "p_opposite", "p_opposite_holm", "interval_level", "files"}
    told = [f"{k.replace('_', ' ')}: {_plain(v)}" for k, v in evidence.items() if k not in skip]
    files = evidence.get("files", [])
    if files:
        told.append(f"{len(files)} file{'s' if len(files) > 1 else ''}, the first {files[0]}")
    return "; ".join(told)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(_plain(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:.3f}" if value == value else "–"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def _figure(plate: PlateText, path: Path | None) -> str:
    name = plate.name
    caption = f"<figcaption><strong>{esc(plate.label)}. {esc(plate.title)}.</strong> {esc(plate.caption)}"
    if path is None:
        return f'<figure id="{name}">{caption} <em>Not drawn.</em></figcaption></figure>'
    source = "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
    # zoomed, the figure itself fills the window: one copy of the picture, and no script
    return (
        f'<div id="{name}"><figure id="zoom-{name}">'
        f'<a href="#zoom-{name}" aria-label="Zoom {esc(plate.label)}">'
        f'<img src="{source}" alt="{esc(plate.title)}"></a>'
        f'<a class="close" href="#{name}">close</a>{caption}</figcaption></figure></div>'
    )


def _table(plate: PlateText, path: Path | None, notes: Path | None) -> str:
    title = f'<h3 id="{plate.name}">{esc(plate.label)}. {esc(plate.title)}</h3><p>{esc(plate.caption)}</p>'
    if path is None:
        return title + '<p class="faint">Not made.</p>'
    shown = _markdown(notes.read_text(encoding="utf-8")) if notes else None
    raw = pd.read_csv(path)
    if shown is None or len(shown[1]) != len(raw):
        heads: Sequence[str] = list(raw)
        cells = [
            [(_plain(v) if v == v else "", v if isinstance(v, float) else None) for v in row]
            for row in raw.to_numpy()
        ]
        return title + _html_table(heads, cells)
    heads, lines, remarks = shown
    cells = [[(cell, _leading_number(cell)) for cell in line] for line in lines]
    return title + _html_table(heads, cells) + "".join(f'<p class="faint">{esc(r)}</p>' for r in remarks)


def _markdown(text: str) -> tuple[list[str], list[list[str]], list[str]]:
    """A table's heads, cells and notes, read back from its Markdown."""
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("|")]
    cells = [[c.strip().replace("\\|", "|") for c in _split(line)] for line in table]
    last = max(i for i, line in enumerate(lines) if line.startswith("|"))
    return cells[0], cells[2:], [line for line in lines[last + 1 :] if line]


def _split(line: str) -> list[str]:
    """A Markdown row's cells; an escaped bar is part of its cell."""
    return re.split(r"(?<!\\)\|", line)[1:-1]


def _leading_number(cell: str) -> float | None:
    """The number that a cell begins with, so that it sorts by value."""
    first = cell.split(" ", 1)[0].replace(",", "").replace("−", "-")
    try:
        return float(first)
    except ValueError:
        return 0.0 if cell.startswith("< 0.001") else None


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[tuple[str, Any]]]) -> str:
    numbers = [all(_is_number(row[i]) for row in rows) for i in range(len(heads))]
    head = "".join(
        f'<th scope="col"{_class(number)}>{esc(h)}</th>' for h, number in zip(heads, numbers, strict=True)
    )
    lines = ("".join(map(_cell, row, numbers)) for row in rows)
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody>"
    return f'<div class="scroll"><table class="sortable">{table}</table></div>'


def _is_number(cell: tuple[str, Any]) -> bool:
    """Whether a cell may stand in a column of numbers: a number, or none where there could be one."""
    return isinstance(cell[1], float) or cell[0] in ("–", "")


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def _cell(cell: tuple[str, Any], number: bool) -> str:
    text, value = cell
    if isinstance(value, float):
        shown = f"{value:.10g}" if value == value else ""
        return f'<td{_class(number)} data-value="{shown}">{esc(text)}</td>'
    if text == "–":
        return f'<td{_class(number)} data-value="">–</td>'
    mark = f' class="{text}"' if text in ("holds", "fails", "undecided") else ""
    return f"<td{mark}>{esc(text)}</td>"


def _what(description: Description, facts: RunFacts) -> str:
    pairs = [f"{p.left} vs {p.right} ({', '.join([p.kind.upper(), *p.tags])})" for p in description.pairs]
    benchmarks = [f"{name} ({_count(len(tasks), 'task')})" for name, tasks in description.benchmarks.items()]
    hours = f"{sum(facts.seconds.values()) / 3600:.2f} in all, over {facts.jobs} recorded jobs"
    listed = [
        ("Backbones", "; ".join(_backbone(n, b, facts) for n, b in description.backbones.items())),
        ("Pairs", "; ".join(pairs)),
        ("Seeds", ", ".join(map(str, description.seeds))),
        ("Recipes", ", ".join(description.recipes) + " (settings in table 5)" if description.recipes else ""),
        ("Training data", ", ".join(description.datasets)),
        ("Probe corpora", ", ".join(description.corpora)),
        ("Benchmarks", "; ".join(benchmarks)),
        ("Versions", ", ".join(f"{n} {v}" for n, v in facts.libraries.items())),
        ("Machines", "; ".join(facts.hosts)),
        ("Hours", hours if facts.jobs else ""),
    ]  # fmt: skip
    rows = "".join(f"<dt>{esc(k)}</dt><dd>{esc(v or 'not recorded')}</dd>" for k, v in listed)
    spent = ""
    if facts.seconds:
        order = sorted(facts.seconds.items(), key=lambda item: -item[1])
        cells = [
            [(n, None), (f"{facts.counts[n]}", float(facts.counts[n])), (f"{s / 3600:.3f}", s)]
            for n, s in order
        ]
        spent = "<h3>Time by stage</h3>" + _html_table(("Stage", "Jobs", "Hours"), cells)
    return f"<dl>{rows}</dl>{spent}"


def _backbone(name: str, about: dict[str, Any], facts: RunFacts) -> str:
    told = [str(about.get("source", "")), str(about.get("revision") or "")]
    if size := facts.parameters.get(name):
        told.append(f"{size:,.0f} parameters")
    return f"{name} ({', '.join(t for t in told if t)})"


def _missing(
    description: Description,
    facts: RunFacts,
    claims: pd.DataFrame,
    plates: WriteReport,
    made: Collection[str],
) -> str:
    told = [f"{p.label} was not made." for p in plates.plates if p.name not in made]
    if plates.left_out:
        told.append(f"The study makes nothing to show in {', '.join(plates.left_out)}.")
    absent = [p.path for p in description.parts if p.path not in facts.tidy]
    if absent:
        told.append(f"{len(absent)} of {len(description.parts)} files of tidy results, such as {absent[0]}.")
    whole = claims[claims["pair"] == ALL] if len(claims) else claims
    told += [f"The claim {c} is undecided." for c in whole.loc[whole["verdict"] == "undecided", "claim"]]
    if not told:
        return "<p>Nothing that the study asks for.</p>"
    return "<ul>" + "".join(f"<li>{esc(t)}</li>" for t in told) + "</ul>"
