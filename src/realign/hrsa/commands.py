"""The commands that compare two models, one for each family of measures."""

from typing import Any

from realign.artifacts.command import Command, Input, Output
from realign.measures.families import FAMILIES, Family
from realign.study.hrsa import JOBS

SIDES = {
    "states": ("The left model's states, HDF5.", "The right model's states of the same tokens, HDF5."),
    "pooled": (
        "The left model's pooled states, with labels, HDF5.",
        "The right model's pooled states of the same texts, HDF5.",
    ),
    "models": ("The left model's directory.", "The right model's directory."),
}
ORIGINS = {
    "left_origin": "The backbone that the left embedder was trained from.",
    "right_origin": "The backbone that the right embedder was trained from.",
}


def _command(family: Family) -> Command[Any]:
    inputs = {side: Input(text) for side, text in zip(("left", "right"), SIDES[family.reads], strict=True)}
    if family.heads:
        inputs |= {f"{side}_model": Input(f"The {side} model's directory.") for side in ("left", "right")}
    if family.heads or (family.reads == "models" and family.corpus):
        inputs["corpus"] = Input("The corpus, JSONL.")
    if family.origins:
        inputs |= {name: Input(text) for name, text in ORIGINS.items()}
        inputs["left_other"] = Input("The left embedder of another seed, for the floor.", required=False)
    further = {name: Output(text, manifest=True) for name, text in family.outputs.items()}
    return Command(
        name=family.command,
        help=family.help,
        run=family.run,
        settings=JOBS[family.name],
        inputs=inputs,
        outputs={"measures": Output("The measures, Parquet, one row a number."), **further},
        formats=family.formats,
    )


def __getattr__(name: str) -> Any:
    """`LINEAR`, `NEIGHBOURS`, …: the command of each family, for the table of commands."""
    if name.lower() in FAMILIES:
        return _command(FAMILIES[name.lower()])
    raise AttributeError(name)
