"""The commands of this room: train an embedder, and publish a declared checkpoint of a training."""

from realign.artifacts.command import Command, Input, Output
from realign.study.recipe import BatchOrders, PublishCheckpoint, Train

TRAIN = Command(
    name="train",
    help="Train an embedder from a backbone, contrastively, on DeepSpeed.",
    run="realign.training.train:run",
    settings=Train,
    inputs={
        "backbone": Input("The backbone's directory."),
        "data": Input(
            "Pairs with hard negatives: <dataset>/pairs.jsonl or <dataset>.jsonl, or data of other tools.",
            many=True,
        ),
        "guide": Input(
            "A guide model, for losses that have one: a sentence-transformers folder.", required=False
        ),
        "deepspeed": Input("A DeepSpeed configuration of your own, JSON.", required=False),
    },
    outputs={
        "model": Output("The embedder.", manifest=True),
        "checkpoints": Output("The declared checkpoints, an embedder each.", manifest=True),
        "training_log": Output("What every step showed, JSON lines."),
        "tensorboard": Output("The same as TensorBoard events.", required=False),
        "tidy": Output("The same as a tidy table, Parquet."),
    },
    formats={"embedder": 1, "training": 1},
)

CHECKPOINT = Command(
    name="checkpoint",
    help="Publish a declared checkpoint of a training as an embedder of its own.",
    run="realign.training.publish:run",
    settings=PublishCheckpoint,
    inputs={"checkpoints": Input("The checkpoints that a training kept.")},
    outputs={"model": Output("The embedder.", manifest=True)},
    formats={"embedder": 1},
)

BATCH_ORDERS = Command(
    name="batch_orders",
    help="Check that trainings which are compared saw the same batches in the same order.",
    run="realign.training.orders:run",
    settings=BatchOrders,
    inputs={"trainings": Input("Tidy tables of trainings, Parquet.", many=True)},
    outputs={"report": Output("The batch order of each recipe and seed, JSON.")},
    formats={"orders": 1},
)
