"""The command that writes the report."""

from realign.artifacts.command import Command, Input, Output
from realign.study.drawing import WriteReport

REPORT = Command(
    name="report",
    help="One self-contained page: question, answer, verdicts, figures, tables, what was run.",
    run="realign.report.page:run",
    settings=WriteReport,
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
