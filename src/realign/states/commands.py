"""The commands of the states room."""

from realign.artifacts.command import Command, Input, Output
from realign.study.states import Extract

EXTRACT = Command(
    name="extract",
    help="Extract a model's hidden states over a corpus, of all layers, to HDF5.",
    run="realign.states.extract:run",
    settings=Extract,
    inputs={
        "model": Input("The model's directory: a backbone or an embedder."),
        "corpus": Input("The texts, JSONL lines with id, text and perhaps label."),
    },
    outputs={
        "states": Output("Token states, HDF5.", manifest=True),
        "pooled": Output("Pooled states, a row for each text, HDF5.", manifest=True),
    },
    formats={"states": 1},
)
