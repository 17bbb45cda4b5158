# Needs: embedders (and backbones), tasks from files or fetched datasets.
# Makes: a score file per model × task as mteb writes it with the scores of its queries beside it, and
# two tidy tables per model: scores, and single queries.

from realign.plan.evaluations import EvaluationPlan


include: "../helpers/evaluate.smk"


EVALUATION = EvaluationPlan(STUDY, R)
TARGETS["scores"] = [
    *(path for model in EVALUATION.models for path in EVALUATION.scores(model)),
    *(
        f"{R}/tidy/{kind}/{model}.parquet"
        for kind in ("scores", "queries")
        for model in EVALUATION.models
    ),
]
# Limits of disk space change nothing in a score, so they reach jobs beside their settings.
VECTORS_GB = STUDY.evaluation.vectors.limit_gb


localrules:
    fetch_task,
    publish_scores,
    collect_scores,
    collect_partial,


# What it fills is the hub's cache, of which the work store knows nothing: whenever it runs, it looks.
rule fetch_task:
    output:
        record=f"{R}/datasets/{{task}}.json",
    params:
        job=lambda wc: job("fetch_task", EVALUATION.fetch_settings(wc.task)),
    log:
        f"{R}/logs/fetch_task/{{task}}.log",
    retries: 2
    shell:
        "realign fetch_task --force --job {params.job:q} --log {log:q} --record {output.record:q}"


# Many small tasks of one model in one process; what it makes lies in the work store, from which
# `publish_scores` puts each in its place. Forced, since of tasks that failed or were pruned from the
# store a sealed report would know nothing; what is done is only looked up.
rule evaluate_warm:
    input:
        unpack(lambda wc: artifact(EVALUATION.model_path(wc.model))),
        unpack(lambda wc: task_inputs(EVALUATION.warm)),
    output:
        report=f"{R}/scores/{{model}}/warm/{{round}}.json",
    params:
        job=lambda wc: job("evaluate_warm", EVALUATION.warm_settings(wc.model)),
    log:
        f"{R}/logs/evaluate_warm/{{model}}.{{round}}.log",
    threads: threads_of("evaluate_warm", 1)
    resources:
        **limits("evaluate_warm", memory_gb=8, hours=12, gpus=0),
        vectors_gb=str(VECTORS_GB),
    shell:
        "REALIGN_VECTORS_GB={resources.vectors_gb} realign evaluate_warm --force --job {params.job:q}"
        " --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " --model {input.data:q} --data {input.tasks:q} --report {output.report:q}"


# Puts in its place what `evaluate_warm` has done, in a second; where that failed, it says why.
rule publish_scores:
    input:
        unpack(lambda wc: evaluated(wc) | warm_report(wc)),
    output:
        scores=f"{R}/scores/{{model}}/{{task}}.json",
        record=f"{R}/scores/{{model}}/records/{{task}}.json",
        queries=f"{R}/scores/{{model}}/queries/{{task}}.parquet",
    params:
        job=lambda wc: job("evaluate", EVALUATION.settings(wc.model, wc.task)),
    log:
        f"{R}/logs/publish_scores/{{model}}/{{task}}.log",
    wildcard_constraints:
        task=one_of(EVALUATION.warm),
    shell:
        "realign evaluate --done-by evaluate_warm --job {params.job:q} --log {log:q}"
        " --model {input.data:q} --data {input.tasks:q}"
        " --scores {output.scores:q} --record {output.record:q} --queries {output.queries:q}"


# A large task, which has a process of its own.
rule evaluate:
    input:
        unpack(evaluated),
    output:
        scores=f"{R}/scores/{{model}}/{{task}}.json",
        record=f"{R}/scores/{{model}}/records/{{task}}.json",
        queries=f"{R}/scores/{{model}}/queries/{{task}}.parquet",
    params:
        job=lambda wc: job("evaluate", EVALUATION.settings(wc.model, wc.task)),
    log:
        f"{R}/logs/evaluate/{{model}}/{{task}}.log",
    threads: threads_of("evaluate", 1)
    resources:
        **limits("evaluate", memory_gb=8, hours=12, gpus=0),
        vectors_gb=str(VECTORS_GB),
    wildcard_constraints:
        task=none_of(EVALUATION.warm),
    shell:
        "REALIGN_VECTORS_GB={resources.vectors_gb} realign evaluate --job {params.job:q} --log {log:q}"
        " --threads {threads} --gpus {resources.gpus_given} --model {input.data:q} --data {input.tasks:q}"
        " --scores {output.scores:q} --record {output.record:q} --queries {output.queries:q}"


rule collect_scores:
    input:
        scores=lambda wc: EVALUATION.scores(wc.model),
        records=lambda wc: EVALUATION.records(wc.model),
        queries=lambda wc: EVALUATION.queries(wc.model),
    output:
        table=f"{R}/tidy/scores/{{model}}.parquet",
        by_query=f"{R}/tidy/queries/{{model}}.parquet",
    params:
        job=lambda wc: job("collect_scores", EVALUATION.collect_settings(wc.model)),
    log:
        f"{R}/logs/collect_scores/{{model}}.log",
    shell:
        "realign collect_scores --job {params.job:q} --log {log:q}"
        " --scores {input.scores:q} --records {input.records:q} --queries {input.queries:q}"
        " --table {output.table:q} --by-query {output.by_query:q}"


# What is there, with the holes listed: `snakemake scores_partial` after a run with --keep-going.
# It has no inputs, since those would be made first.
rule collect_partial:
    output:
        table=f"{R}/partial/scores/{{model}}.parquet",
        holes=f"{R}/partial/scores/{{model}}.holes.json",
    params:
        job=lambda wc: job(
            "collect_scores", EVALUATION.collect_settings(wc.model, partial=True)
        ),
        there=lambda wc: present(wc),
        moments=lambda wc: moments(present(wc)),
    log:
        f"{R}/logs/collect_partial/{{model}}.log",
    shell:
        "realign collect_scores --job {params.job:q} --log {log:q}"
        " --scores {params.there[scores]:q} --records {params.there[records]:q}"
        " --queries {params.there[queries]:q}"
        " --table {output.table:q} --holes {output.holes:q}"


rule scores_partial:
    input:
        [f"{R}/partial/scores/{model}.parquet" for model in EVALUATION.models],
