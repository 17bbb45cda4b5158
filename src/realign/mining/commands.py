"""The commands of this room: mining hard negatives, judging them, and choosing rows by margin."""

from realign.artifacts.command import Command, Input, Output
from realign.study.judging import AuditJob, RelabelJob
from realign.study.mining import MarginJob, MineJob

TEACHER = Input("The teacher: a sentence-transformers model, a backbone or an embedder.", required=False)

MINE = Command(
    name="mine",
    help="Mine hard negatives for one dataset: positive-aware, exact, the same on every rerun.",
    run="realign.mining.mine:run",
    settings=MineJob,
    inputs={
        "raw": Input("Pairs, JSONL (plain, gzip or zstd)."),
        "teacher": TEACHER,
        "corpus": Input('More passages, JSONL rows {"text": …}.', required=False),
        "cross_encoder": Input("A cross-encoder that scores candidates anew.", required=False),
    },
    outputs={
        "pairs": Output("The pairs with their negatives, JSONL."),
        "candidates": Output("Every candidate with its rank, scores and fate, Parquet.", required=False),
        "margins": Output("Each mined negative's rank, score and margin, Parquet.", required=False),
        "report": Output("What was counted, JSON.", required=False),
        "tidy": Output("The same as a long table, Parquet.", required=False),
    },
    formats={"mined": 1},
)

MARGIN_FILTER = Command(
    name="margin_filter",
    help="Keep the rows whose positive is far enough from their hardest negative.",
    run="realign.mining.margin:run",
    settings=MarginJob,
    inputs={"mined": Input("Pairs with negatives, JSONL."), "teacher": TEACHER},
    outputs={
        "pairs": Output("The rows that stay, JSONL."),
        "margins": Output("Every row's margin and whether it stays, Parquet.", required=False),
        "report": Output("What was counted, JSON.", required=False),
    },
    formats={"mined": 1},
)

JUDGED = {
    "mined": Input("Pairs with negatives, JSONL."),
    "margins": Input("Each mined negative's rank, score and margin, as mining writes it."),
    "cross_encoder": Input("The cross-encoder of `judge.cross_encoder`.", required=False),
}

AUDIT = Command(
    name="audit",
    help="Estimate how often mined negatives are answers: a judge labels a random sample.",
    run="realign.mining.audit:run",
    settings=AuditJob,
    inputs=JUDGED | {"gold": Input("Labels that are known, JSONL.", required=False)},
    outputs={
        "tidy": Output("The rates with their intervals, Parquet."),
        "labels": Output("Every sampled negative with its label, Parquet.", required=False),
        "report": Output("What was counted, JSON.", required=False),
    },
    formats={"audit": 1},
)

RELABEL = Command(
    name="relabel",
    help="Judge mined negatives, and keep, drop or promote those that answer their query.",
    run="realign.mining.relabel:run",
    settings=RelabelJob,
    inputs=JUDGED,
    outputs={
        "pairs": Output("The pairs with what is left of their negatives, JSONL."),
        "labels": Output("Every judged negative with its label, Parquet.", required=False),
        "report": Output("What was counted, JSON.", required=False),
    },
    formats={"relabelled": 1},
)
