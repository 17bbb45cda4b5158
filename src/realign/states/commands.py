"""The commands of the states room."""

from realign.artifacts.command import Command, Input, Output
from realign.study.states import Extract
from realign.study.traces import CountJob, TraceJob

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

TRACES = Command(
    name="traces",
    help="Have a model reason about a set of problems, and check and judge its answers.",
    run="realign.states.traces.generate:run",
    settings=TraceJob,
    inputs={
        "problems": Input("The problems: JSONL, Parquet or a saved dataset."),
        "model": Input("The backbone that writes, unless an endpoint does.", required=False),
    },
    outputs={"traces": Output("The traces, JSONL."), "counts": Output("What they amount to, CSV.")},
    formats={"traces": 1},
)

COUNT_TRACES = Command(
    name="count_traces",
    help="Count sets of traces: skipped, judged and right, apart.",
    run="realign.states.traces.count:run",
    settings=CountJob,
    inputs={"traces": Input("One file for each set, in their order.", many=True)},
    outputs={"counts": Output("The counts, CSV.")},
    formats={"counts": 1},
)
