# Hard negatives: each dataset's raw pairs get the nearest texts that are no answers, by a teacher.
# Needs: {R}/text/pairs/{dataset}.jsonl, {R}/backbones/{teacher}/model (or a folder, or nothing)
# Makes: {R}/mined/{dataset}/…, {R}/tidy/mining/{dataset}.parquet


include: "../helpers/mine.smk"


MINED = f"{R}/mined/{{dataset}}"


# Mines one dataset; vectors are kept for every dataset that has the same teacher.
rule mine:
    input:
        **beside_raw_pairs(),
        raw=f"{R}/text/pairs/{{dataset}}.jsonl",
    output:
        pairs=f"{MINED}/pairs.jsonl",
        candidates=f"{MINED}/candidates.parquet",
        margins=f"{MINED}/margins.parquet",
        report=f"{MINED}/report.json",
        tidy=f"{R}/tidy/mining/{{dataset}}.parquet",
    params:
        job=lambda wc: job("mine", STUDY.mining.of(STUDY.study, wc.dataset)),
    log:
        f"{R}/logs/mine/{{dataset}}.log",
    threads: threads_of("mine", 2)
    resources:
        **limits("mine", memory_gb=4, gpus=0),
        token_budget=STUDY.mining.token_budget,
    shell:
        "realign mine --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " --token-budget {resources.token_budget}"
        " --raw {input.raw:q}"
        + flags_of(beside_raw_pairs())
        + " --pairs {output.pairs:q} --candidates {output.candidates:q}"
        " --margins {output.margins:q} --report {output.report:q} --tidy {output.tidy:q}"


MARGIN_TEACHER = teacher_of(STUDY.mining.margin_filter) or teacher_of(STUDY.mining)


# Keeps the rows whose positive is far enough from their hardest negative.
rule margin_filter:
    input:
        **MARGIN_TEACHER,
        mined=lambda wc: mended_pairs(wc.dataset),
    output:
        pairs=f"{MINED}/filtered/pairs.jsonl",
        margins=f"{MINED}/filtered/margins.parquet",
        report=f"{MINED}/filtered/report.json",
    params:
        job=lambda wc: job("margin_filter", STUDY.mining.margin_job(STUDY.study)),
    log:
        f"{R}/logs/margin_filter/{{dataset}}.log",
    threads: threads_of("margin_filter", 2)
    resources:
        **limits("margin_filter", memory_gb=4, gpus=0),
        token_budget=STUDY.mining.token_budget,
    shell:
        "realign margin_filter --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " --token-budget {resources.token_budget}"
        " --mined {input.mined:q}"
        + flags_of(MARGIN_TEACHER)
        + " --pairs {output.pairs:q} --margins {output.margins:q} --report {output.report:q}"


# A judge behind an endpoint is asked from where Snakemake runs: compute nodes often have no network.
ASKS_ENDPOINT = STUDY.mining.judge.chat is not None
ASKING_FLAGS = "".join(
    f" --{name.replace('_', '-')} {{resources.{name}:q}}" for name in asking()
)


# Estimates how often mined negatives are answers: a judge labels a random sample.
rule audit:
    localrule: ASKS_ENDPOINT
    input:
        **judged_with(STUDY.mining.audit.gold),
        mined=f"{MINED}/pairs.jsonl",
        margins=f"{MINED}/margins.parquet",
    output:
        tidy=f"{R}/tidy/audits/{{dataset}}.parquet",
        labels=f"{MINED}/audit/labels.parquet",
        report=f"{MINED}/audit/report.json",
    params:
        job=lambda wc: job("audit", STUDY.mining.audit_job(STUDY.study, wc.dataset)),
    log:
        f"{R}/logs/audit/{{dataset}}.log",
    threads: threads_of("audit", 1)
    resources:
        **limits("audit", memory_gb=4, gpus=0),
        **asking(),
    shell:
        "realign audit --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        + ASKING_FLAGS
        + " --mined {input.mined:q} --margins {input.margins:q}"
        + flags_of(judged_with(STUDY.mining.audit.gold))
        + " --tidy {output.tidy:q} --labels {output.labels:q} --report {output.report:q}"


# Judges mined negatives, and keeps, drops or promotes those that answer their query.
rule relabel:
    localrule: ASKS_ENDPOINT
    input:
        **judged_with(),
        mined=f"{MINED}/pairs.jsonl",
        margins=f"{MINED}/margins.parquet",
    output:
        pairs=f"{MINED}/relabelled/pairs.jsonl",
        labels=f"{MINED}/relabelled/labels.parquet",
        report=f"{MINED}/relabelled/report.json",
    params:
        job=lambda wc: job("relabel", STUDY.mining.relabel_job(STUDY.study, wc.dataset)),
    log:
        f"{R}/logs/relabel/{{dataset}}.log",
    threads: threads_of("relabel", 1)
    resources:
        **limits("relabel", memory_gb=4, gpus=0),
        **asking(),
    shell:
        "realign relabel --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        + ASKING_FLAGS
        + " --mined {input.mined:q} --margins {input.margins:q}"
        + flags_of(judged_with())
        + " --pairs {output.pairs:q} --labels {output.labels:q} --report {output.report:q}"


TARGETS["mine"] = [
    f"{R}/tidy/audits/{name}.parquet" for name in STUDY.mining.audit.datasets
] + [
    path
    for name, dataset in STUDY.data.datasets.items()
    if dataset.mined
    for path in (training_pairs(name), f"{R}/tidy/mining/{name}.parquet")
]
