# Hard negatives: each dataset's raw pairs get the nearest texts that are no answers, by a teacher.
# Needs: {R}/text/pairs/{dataset}.jsonl, {R}/backbones/{teacher}/model (or a folder, or nothing)
# Makes: {R}/mined/{dataset}/…, {R}/tidy/mining/{dataset}.parquet

MINED = f"{R}/mined/{{dataset}}"


def teacher_of(teacher):
    """A teacher as inputs: a backbone of the study, a folder, or nothing where it needs none."""
    if teacher.backbone:
        return artifact(f"{R}/backbones/{teacher.backbone}/model")
    return dict(data=teacher.path) if teacher.path else {}


def beside_raw_pairs():
    """What mining reads beside the raw pairs."""
    given = dict(corpus=STUDY.mining.corpus, cross_encoder=STUDY.mining.cross_encoder)
    return teacher_of(STUDY.mining.teacher) | {
        name: path for name, path in given.items() if path
    }


def training_pairs(dataset):
    """The pairs that a dataset is trained on: as they came, mined, or mined and filtered."""
    if not STUDY.data.datasets[dataset].mined:
        return f"{R}/text/pairs/{dataset}.jsonl"
    filtered = "filtered/" if dataset in STUDY.mining.margin_filter.datasets else ""
    return f"{R}/mined/{dataset}/{filtered}pairs.jsonl"


def flags_of(inputs):
    """The flags for inputs that a study may go without."""
    flags = dict(data="teacher", corpus="corpus", cross_encoder="cross-encoder")
    return "".join(
        f" --{flag} {{input.{name}:q}}"
        for name, flag in flags.items()
        if name in inputs
    )


# Mines one dataset; vectors are kept for every dataset that has the same teacher.
rule mine:
    input:
        **beside_raw_pairs(),
        raw=f"{R}/text/pairs/{{dataset}}.jsonl",
    output:
        pairs=f"{MINED}/pairs.jsonl",
        candidates=f"{MINED}/candidates.parquet",
        report=f"{MINED}/report.json",
        tidy=f"{R}/tidy/mining/{{dataset}}.parquet",
    params:
        job=lambda wc: job("mine", STUDY.mining.of(STUDY, wc.dataset)),
    log:
        f"{R}/logs/mine/{{dataset}}.log",
    benchmark:
        f"{R}/benchmarks/mine/{{dataset}}.tsv"
    threads: threads_of("mine", 2)
    resources:
        **limits("mine", memory_gb=4),
        token_budget=STUDY.mining.token_budget,
    shell:
        "realign mine --job {params.job:q} --log {log:q} --threads {threads}"
        " --token-budget {resources.token_budget}"
        " --raw {input.raw:q}"
        + flags_of(beside_raw_pairs())
        + " --pairs {output.pairs:q} --candidates {output.candidates:q}"
        " --report {output.report:q} --tidy {output.tidy:q}"


MARGIN_TEACHER = teacher_of(STUDY.mining.margin_filter.teacher) or teacher_of(
    STUDY.mining.teacher
)


# Keeps the rows whose positive is far enough from their hardest negative.
rule margin_filter:
    input:
        **MARGIN_TEACHER,
        mined=f"{MINED}/pairs.jsonl",
    output:
        pairs=f"{MINED}/filtered/pairs.jsonl",
        margins=f"{MINED}/filtered/margins.parquet",
        report=f"{MINED}/filtered/report.json",
    params:
        job=lambda wc: job("margin_filter", STUDY.mining.margin_job(STUDY)),
    log:
        f"{R}/logs/margin_filter/{{dataset}}.log",
    benchmark:
        f"{R}/benchmarks/margin_filter/{{dataset}}.tsv"
    threads: threads_of("margin_filter", 2)
    resources:
        **limits("margin_filter", memory_gb=4),
        token_budget=STUDY.mining.token_budget,
    shell:
        "realign margin_filter --job {params.job:q} --log {log:q} --threads {threads}"
        " --token-budget {resources.token_budget}"
        " --mined {input.mined:q}"
        + flags_of(MARGIN_TEACHER)
        + " --pairs {output.pairs:q} --margins {output.margins:q} --report {output.report:q}"


TARGETS["mine"] = [
    path
    for name, dataset in STUDY.data.datasets.items()
    if dataset.mined
    for path in (training_pairs(name), f"{R}/tidy/mining/{name}.parquet")
]
