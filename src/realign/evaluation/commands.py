"""The evaluation stage's commands."""

from realign.artifacts.command import Command, Input, Output
from realign.study.evaluation import CollectScores, EvaluateTask, EvaluateWarm, FetchTask

EVALUATE = Command(
    name="evaluate",
    help="Evaluate one model on one task.",
    run="realign.evaluation.evaluate:run",
    settings=EvaluateTask,
    inputs={
        "model": Input("The model's directory: a backbone, an embedder, any sentence-transformers model."),
        "data": Input("The task's files, or the record of its fetched dataset.", many=True, required=False),
    },
    outputs={
        "scores": Output("The scores, JSON as mteb writes it."),
        "record": Output("What was really prefixed, and where the task came from, JSON."),
        "queries": Output("The score of every query, Parquet; no rows where a task has no queries."),
    },
    formats={"record": 1, "queries": 1},
    front="realign.tools.evaluate:main",
)

EVALUATE_WARM = Command(
    name="evaluate_warm",
    help="Evaluate many small tasks of one model in one process, for the single jobs to publish.",
    run="realign.evaluation.warm:run",
    settings=EvaluateWarm,
    inputs={
        "model": Input("The model's directory."),
        "data": Input("The files of all tasks, in the tasks' order.", many=True, required=False),
    },
    outputs={"report": Output("Which tasks are done and which failed, JSON.")},
    formats=EVALUATE.formats,
)

FETCH_TASK = Command(
    name="fetch_task",
    help="Fetch the dataset of one mteb task at its pinned revision.",
    run="realign.evaluation.fetch:run",
    settings=FetchTask,
    outputs={"record": Output("What was fetched, JSON.")},
    formats={"dataset record": 1},
)

COLLECT_SCORES = Command(
    name="collect_scores",
    help="Gather the scores of one model, with their means, into one tidy table.",
    run="realign.evaluation.collect:run",
    settings=CollectScores,
    inputs={
        "scores": Input("Score files.", many=True, required=False),
        "records": Input("The record beside each of them, in the same order.", many=True, required=False),
        "queries": Input("The queries' scores beside each of them.", many=True, required=False),
    },
    outputs={
        "table": Output("The tidy scores, Parquet."),
        "by_query": Output("The tidy scores of single queries, Parquet.", required=False),
        "holes": Output("The tasks that have no scores, JSON.", required=False),
    },
    formats={"scores": 1, "queries": 1},
)
