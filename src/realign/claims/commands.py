"""The command that judges a study's claims."""

from realign.artifacts.command import Command, Input, Output
from realign.study.drawing import JudgeClaims

CLAIMS = Command(
    name="claims",
    help="Judge the study's claims: holds, fails, or undecided at this sample size.",
    run="realign.claims.judge:run",
    settings=JudgeClaims,
    inputs={"tidy": Input("Tidy results that claims read.", many=True, required=False)},
    outputs={
        "verdicts": Output("Every test and every verdict, Parquet."),
        "json": Output("The same, as JSON."),
        "md": Output("The same, for people."),
    },
    formats={"claims": 1},
)
