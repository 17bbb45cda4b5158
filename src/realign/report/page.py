"""One self-contained HTML page: question, answer, verdicts, figures, tables, what was run and is missing."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from realign.artifacts.command import Job
from realign.plates.plate import label_of
from realign.report import verdicts
from realign.report.facts import RunFacts, read_run
from realign.report.grids import Cell, Grid, read_grid
from realign.report.templates import count, span, write_page
from realign.results.tidy import read_table
from realign.study.description import Description
from realign.study.drawing import PlateText, WriteReport


def run(job: Job[WriteReport]) -> None:
    """Write the page."""
    place = job.input("study")
    study = Description.model_validate_json(place.read_text(encoding="utf-8"))
    figures, tables, notes = ({p.stem: p for p in job.inputs_of(k)} for k in ("figures", "tables", "notes"))
    claims = verdicts.cards(read_table("claims", job.inputs_of("claims")))
    tested = [card for card in claims if card.tested]
    facts = read_run(place.parent.parent)
    plates = list(with_words(job.settings.plates, (*figures, *tables)))
    write_page(
        job.output("html"),
        "page.html",
        study=study,
        title=study.title or study.name,
        answer=verdicts.answer(tested),
        numbers=verdicts.numbers(tested),
        cautions=[*verdicts.gain_warnings(tested), *verdicts.sink_warnings(tested)],
        sizes=list(sizes(study, facts, job.settings.controls)),
        tested=tested,
        untested=[card for card in claims if not card.tested],
        figures=[p for p in plates if p.name in figures],
        drawn=figures,
        tables=[(p, read_grid(tables[p.name], notes.get(p.name))) for p in plates if p.name in tables],
        listed=list(what_was_run(study, facts)),
        spent=time_by_stage(facts),
        missing=list(missing(study, facts, plates, {*figures, *tables})),
    )


def with_words(known: Collection[PlateText], made: Collection[str]) -> Iterator[PlateText]:
    """The plates that the study makes, then those that were drawn beyond them, which have no words."""
    yield from known
    names = {plate.name for plate in known}
    for name in made:
        if name not in names:
            yield PlateText(name=name, heading=f"{label_of(name)}.", title=label_of(name), caption="")


def sizes(study: Description, facts: RunFacts, controls: Collection[str]) -> Iterator[str]:
    """The sizes that the verdicts rest on."""
    compared = [p for p in study.pairs if p.kind not in controls and not p.path]
    split = ", ".join(f"{n} {kind}" for kind, n in Counter(p.kind.upper() for p in compared).items())
    yield f"{count(len(compared), 'pair')} of backbones" + (f" ({split})" if split else "")
    if facts.parameters:
        yield f"at most {max(facts.parameters.values()):,.0f} parameters"
    tasks = {task for inside in study.benchmarks.values() for task in inside}
    for number, one, many in (
        (len(study.seeds) if study.trained else 0, "contrastive seed", ""),
        (len(tasks), "benchmark task", ""),
        (len(study.corpora), "probe corpus", "probe corpora"),
    ):
        if number:
            yield count(number, one, many)


def what_was_run(study: Description, facts: RunFacts) -> Iterator[tuple[str, str]]:
    """Everything that went into the results, by name."""
    pairs = [
        f"{p.left} vs {p.right} ({', '.join([p.kind.upper(), *p.tags])})" for p in study.pairs if not p.path
    ]
    yield "Backbones", "; ".join(_backbone(name, about, facts) for name, about in study.backbones.items())
    yield "Pairs", "; ".join(pairs)
    if study.trained:
        yield "Seeds", ", ".join(map(str, study.seeds))
        yield "Recipes", ", ".join(study.recipes) + " (settings in table 5)"
        yield "Training data", ", ".join(study.datasets)
    if study.corpora:
        yield "Probe corpora", ", ".join(study.corpora)
    if study.benchmarks:
        yield "Benchmarks", "; ".join(f"{n} ({count(len(t), 'task')})" for n, t in study.benchmarks.items())
    yield "Versions", ", ".join(f"{name} {version}" for name, version in facts.libraries.items())
    yield "Machines", "; ".join(facts.hosts)
    if facts.jobs:
        yield "Time", f"{span(sum(facts.seconds.values()))} in all, over {facts.jobs} recorded jobs"


def _backbone(name: str, about: dict[str, Any], facts: RunFacts) -> str:
    size = facts.parameters.get(name)
    told = [about.get("source"), about.get("revision"), f"{size:,.0f} parameters" if size else ""]
    return f"{name} ({', '.join(str(t) for t in told if t)})"


def time_by_stage(facts: RunFacts) -> Grid:
    """What each stage took, the longest first."""
    order = sorted(facts.seconds.items(), key=lambda item: -item[1])
    rows = [
        [Cell(stage), Cell(f"{facts.counts[stage]}", float(facts.counts[stage])), Cell(span(took), took)]
        for stage, took in order
    ]
    return Grid(("Stage", "Jobs", "Time"), rows)


def missing(
    study: Description, facts: RunFacts, plates: Collection[PlateText], made: Collection[str]
) -> Iterator[str]:
    """What the study asks for and the results lack."""
    for plate in plates:
        if plate.name not in made:
            yield f"“{plate.title}” was not made."
    absent = [part.path for part in study.parts if part.path not in facts.tidy]
    if absent:
        yield f"{len(absent)} of {count(len(study.parts), 'file')} of tidy results, such as {absent[0]}."
