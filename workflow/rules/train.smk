# Embedders: one contrastive training for each backbone × recipe × seed, and its declared checkpoints.
# Needs: {R}/backbones/{backbone}/model, {R}/mined/{dataset}/pairs.jsonl
# Makes: {R}/embedders/{embedder}/…, {R}/tidy/training/{embedder}.parquet

from realign.study.recipe import BatchOrders, PublishCheckpoint, Train
from realign.plan.targets import checkpoints, embedders


include: "../helpers/train.smk"


EMBEDDER = "{backbone}+{recipe}+s{seed}"


# Trains one embedder; a killed job goes on where it was.
rule train:
    input:
        unpack(lambda wc: artifact(f"{R}/backbones/{wc.backbone}/model")),
        unpack(guide_model),
        checks=lambda wc: checks_of(wc.backbone),
        pairs=training_data,
        deepspeed=own_deepspeed,
    output:
        f"{R}/embedders/{EMBEDDER}/model.manifest.json",
        f"{R}/embedders/{EMBEDDER}/checkpoints.manifest.json",
        model=directory(f"{R}/embedders/{EMBEDDER}/model"),
        checkpoints=directory(f"{R}/embedders/{EMBEDDER}/checkpoints"),
        log=f"{R}/embedders/{EMBEDDER}/log.jsonl",
        tensorboard=directory(f"{R}/embedders/{EMBEDDER}/tensorboard"),
        tidy=f"{R}/tidy/training/{EMBEDDER}.parquet",
    params:
        job=lambda wc: job("train", training(wc)),
    log:
        f"{R}/logs/train/{EMBEDDER}.log",
    threads: threads_of("train", 2)
    resources:
        **limits("train", memory_gb=4, gpus=0),
        hardware=hardware,
    shell:
        "realign train --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " {resources.hardware}"
        " --backbone {input.data:q} --data {input.pairs:q} --deepspeed {input.deepspeed:q}"
        " --guide {input.guide:q}"
        " --model {output.model:q} --checkpoints {output.checkpoints:q}"
        " --training-log {output.log:q} --tensorboard {output.tensorboard:q} --tidy {output.tidy:q}"


# Publishes one declared checkpoint of a training as an embedder of its own.
rule checkpoint:
    input:
        unpack(
            lambda wc: artifact(
                f"{R}/embedders/{wc.backbone}+{wc.recipe}+s{wc.seed}/checkpoints"
            )
        ),
    output:
        f"{R}/embedders/{EMBEDDER}+step{{step}}/model.manifest.json",
        model=directory(f"{R}/embedders/{EMBEDDER}+step{{step}}/model"),
    params:
        job=lambda wc: job("checkpoint", PublishCheckpoint(step=int(wc.step))),
    log:
        f"{R}/logs/checkpoint/{EMBEDDER}+step{{step}}.log",
    threads: 1
    resources:
        **limits("checkpoint", memory_gb=1),
    shell:
        "realign checkpoint --job {params.job:q} --log {log:q} --threads {threads}"
        " --checkpoints {input.data:q} --model {output.model:q}"


# Stops where backbones that are compared were trained on different batches.
rule batch_orders:
    input:
        trainings=[
            f"{R}/tidy/training/{embedder}.parquet" for embedder in embedders(STUDY)
        ],
    output:
        report=f"{R}/embedders/batch_orders.json",
    params:
        job=lambda wc: job("batch_orders", BatchOrders()),
    log:
        f"{R}/logs/batch_orders.log",
    threads: 1
    resources:
        **limits("batch_orders", memory_gb=1),
    shell:
        "realign batch_orders --job {params.job:q} --log {log:q} --threads {threads}"
        " --trainings {input.trainings:q} --report {output.report:q}"


TARGETS["train"] = [
    path
    for embedder in [*embedders(STUDY), *checkpoints(STUDY)]
    for path in with_manifest(f"{R}/embedders/{embedder}/model")
]
if embedders(STUDY):
    TARGETS["train"].append(f"{R}/embedders/batch_orders.json")
