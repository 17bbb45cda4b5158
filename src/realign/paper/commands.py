"""The commands of this room: describe a study, draw each figure and table, judge claims, report.

Figures and tables are commands of their own, made from the catalogue, so that each has the
fingerprint of its own code: a change to one module redraws what that module draws.
"""

from typing import Any

from realign.artifacts.command import Command, Input, Output
from realign.paper.catalogue import PLATES, Plate
from realign.paper.plan import ClaimsJob, PlateJob, ReportJob
from realign.study.description import Description

DESCRIBE = Command(
    name="describe_study",
    help="Write what the study is made of, which all drawings are planned from.",
    run="realign.paper.describe:run",
    settings=Description,
    outputs={"study": Output("The description, JSON.")},
    formats={"study": 1},
)

CLAIMS = Command(
    name="claims",
    help="Judge the study's claims: holds, fails, or undecided at this sample size.",
    run="realign.paper.claims:run",
    settings=ClaimsJob,
    inputs={"tidy": Input("Tidy results that claims read.", many=True, required=False)},
    outputs={
        "verdicts": Output("Every test and every verdict, Parquet."),
        "json": Output("The same, as JSON."),
        "md": Output("The same, for people."),
    },
    formats={"claims": 1},
)

REPORT = Command(
    name="report",
    help="One self-contained page: question, answer, verdicts, figures, tables, what was run.",
    run="realign.paper.report.page:run",
    settings=ReportJob,
    inputs={
        "study": Input("The study's description, JSON."),
        "claims": Input("The verdicts, Parquet.", required=False),
        "figures": Input("Figures, SVG.", many=True, required=False),
        "tables": Input("Tables, CSV.", many=True, required=False),
        "notes": Input("The same tables in Markdown, whose notes are shown.", many=True, required=False),
    },
    outputs={"html": Output("The report, one HTML file.")},
    formats={"report": 1},
)


def _command(plate: Plate) -> Command[PlateJob]:
    forms = ("csv", "tex", "md") if plate.is_table else ("pdf", "png", "svg", "csv")
    folder = "tables" if plate.is_table else "figures"
    return Command(
        name=plate.name,
        help=f"{plate.label}: {plate.title}.",
        run=f"realign.paper.{folder}.{plate.module}:run",
        settings=PlateJob,
        inputs={
            "tidy": Input("Tidy results that it reads.", many=True, required=False),
            "reference": Input("Published values.", many=True, required=False),
        },
        outputs={form: Output(f"The {plate.name.split('_')[0]} as {form.upper()}.") for form in forms},
        formats={"plate": 1},
    )


PLATE_COMMANDS = {name: _command(plate) for name, plate in PLATES.items()}


def __getattr__(name: str) -> Any:
    """`FIGURE_3`, `TABLE_12`, …: the command of each plate, for the table of commands."""
    try:
        return PLATE_COMMANDS[name.lower()]
    except KeyError:
        raise AttributeError(name) from None
