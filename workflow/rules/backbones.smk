# Backbones: fetched from a hub or a package index, imported from a folder or a GGUF file, or made here.
# Needs: {R}/text/pretrain.jsonl, {R}/text/problems/*.jsonl, {R}/text/probes/*.jsonl
# Makes: {R}/backbones/<backbone>/model, {R}/tidy/backbones/<backbone>.parquet, {R}/pairs/<pair>.json

from realign.study.backbones import CheckPairJob, ScoreJob
from realign.study.series import series_of
from realign.study.sources import SOURCES, base_of, kind_of, scored


include: "../helpers/backbones.smk"


BACKBONE = f"{R}/backbones/{{backbone}}"
MODEL = dict(
    model=directory(f"{BACKBONE}/model"), manifest=f"{BACKBONE}/model.manifest.json"
)
SCORED = scored(STUDY.backbone_scores, STUDY.backbones, STUDY.pairs)
WHOLE_RUNS = {
    name: series.name
    for series in series_of(STUDY.backbones, STUDY.pairs)
    if SOURCES[series.backbone.source].trains
    for name in series.others
}


# Runs where there is a network, which compute nodes often lack.
localrules:
    fetch_hub,


rule fetch_hub:
    output:
        **MODEL,
    log:
        f"{R}/logs/fetch_hub/{{backbone}}.log",
    wildcard_constraints:
        backbone=only(lambda b: b.hub),
    threads: 1
    resources:
        **limits("fetch_hub", memory_gb=2),
    params:
        job=lambda wc: job("fetch_hub", STUDY.backbones[wc.backbone].fetch_hub()),
    shell:
        "realign fetch_hub --job {params.job:q} --log {log:q} --threads {threads}"
        " --model {output.model:q}"


rule import_path:
    input:
        unpack(import_source),
    output:
        **MODEL,
    log:
        f"{R}/logs/import_path/{{backbone}}.log",
    wildcard_constraints:
        backbone=only(lambda b: b.path or (b.pypi and not b.is_gguf())),
    threads: 1
    resources:
        **limits("import_path", memory_gb=4),
    params:
        job=lambda wc: job("import_path", STUDY.backbones[wc.backbone].import_model()),
    shell:
        "realign import_path --job {params.job:q} --log {log:q} --threads {threads}"
        " --source {input.data:q} --model {output.model:q}"


rule import_gguf:
    input:
        unpack(import_source),
    output:
        **MODEL,
    log:
        f"{R}/logs/import_gguf/{{backbone}}.log",
    wildcard_constraints:
        backbone=only(lambda b: b.is_gguf()),
    threads: 1
    resources:
        **limits("import_gguf", memory_gb=8),
    params:
        job=lambda wc: job("import_gguf", STUDY.backbones[wc.backbone].import_model()),
    shell:
        "realign import_gguf --job {params.job:q} --log {log:q} --threads {threads}"
        " --source {input.data:q} --model {output.model:q}"


# A killed derivation goes on where it was. One thread: small models lose more by waiting for others.
rule pretrain:
    input:
        text=f"{R}/text/pretrain.jsonl",
        problems=f"{R}/text/problems/pretrain.jsonl",
        run=whole_run,
    output:
        **MODEL,
        history=f"{BACKBONE}/log.jsonl",
    log:
        f"{R}/logs/pretrain/{{backbone}}.log",
    wildcard_constraints:
        backbone=only(lambda b: b.pretrain),
    threads: threads_of("pretrain", 1)
    resources:
        **limits("pretrain", memory_gb=4, gpus=0),
        hardware=tuning_hardware("pretrain"),
    params:
        job=lambda wc: job("pretrain", seeded(STUDY.backbones[wc.backbone].recipe)),
    shell:
        "realign pretrain --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " {resources.hardware} --text {input.text:q} --problems {input.problems:q}"
        " --model {output.model:q} --history {output.history:q}"


rule sft:
    input:
        unpack(parent_models),
        problems=f"{R}/text/problems/train.jsonl",
        run=whole_run,
    output:
        **MODEL,
        history=f"{BACKBONE}/log.jsonl",
    log:
        f"{R}/logs/sft/{{backbone}}.log",
    wildcard_constraints:
        backbone=only(lambda b: b.sft),
    threads: threads_of("sft", 1)
    resources:
        **limits("sft", memory_gb=4, gpus=0),
        hardware=tuning_hardware("sft"),
    params:
        job=lambda wc: job("sft", seeded(STUDY.backbones[wc.backbone].recipe)),
    shell:
        "realign sft --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " {resources.hardware} --base {input.data:q} --problems {input.problems:q}"
        " --model {output.model:q} --history {output.history:q}"


rule rlvr:
    input:
        unpack(parent_models),
        problems=f"{R}/text/problems/train.jsonl",
        run=whole_run,
    output:
        **MODEL,
        history=f"{BACKBONE}/log.jsonl",
    log:
        f"{R}/logs/rlvr/{{backbone}}.log",
    wildcard_constraints:
        backbone=only(lambda b: b.rlvr),
    threads: threads_of("rlvr", 1)
    resources:
        **limits("rlvr", memory_gb=4, gpus=0),
        hardware=tuning_hardware("rlvr"),
    params:
        job=lambda wc: job("rlvr", seeded(STUDY.backbones[wc.backbone].recipe)),
    shell:
        "realign rlvr --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " {resources.hardware} --base {input.data:q} --problems {input.problems:q}"
        " --model {output.model:q} --history {output.history:q}"


rule merge:
    input:
        unpack(parent_models),
    output:
        **MODEL,
    log:
        f"{R}/logs/merge/{{backbone}}.log",
    wildcard_constraints:
        backbone=only(lambda b: b.merge),
    threads: 1
    resources:
        **limits("merge", memory_gb=8),
    params:
        job=lambda wc: job("merge", STUDY.backbones[wc.backbone].recipe),
    shell:
        "realign merge --job {params.job:q} --log {log:q} --threads {threads}"
        " --parents {input.data:q} --model {output.model:q}"


rule untrained:
    input:
        unpack(parent_models),
    output:
        **MODEL,
    log:
        f"{R}/logs/untrained/{{backbone}}.log",
    wildcard_constraints:
        backbone=only(lambda b: b.untrained),
    threads: 1
    resources:
        **limits("untrained", memory_gb=4),
    params:
        job=lambda wc: job("untrained", seeded(STUDY.backbones[wc.backbone].recipe)),
    shell:
        "realign untrained --job {params.job:q} --log {log:q} --threads {threads}"
        " --like {input.data:q} --model {output.model:q}"


# Pass rate on held-out problems and perplexity of held-out text, side by side with the base's.
rule score_backbone:
    input:
        unpack(lambda wc: artifact(f"{R}/backbones/{wc.backbone}/model")),
        problems=f"{R}/text/problems/heldout.jsonl",
        text=f"{R}/text/pretrain.jsonl",
        base_details=base_details,
    output:
        metrics=f"{R}/tidy/backbones/{{backbone}}.parquet",
        details=f"{BACKBONE}/details.json",
    log:
        f"{R}/logs/score_backbone/{{backbone}}.log",
    threads: threads_of("score_backbone", 1)
    resources:
        **limits("score_backbone", memory_gb=4, gpus=0),
    params:
        job=lambda wc: job(
            "score_backbone", score_job(STUDY.backbone_scores, wc.backbone)
        ),
    shell:
        "realign score_backbone --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " --model {input.data:q} --problems {input.problems:q} --text {input.text:q}"
        " --base-details {input.base_details:q} --metrics {output.metrics:q} --details {output.details:q}"


# Refuses a pair that cannot be compared; trainings and extractions wait for it (`checks_of`).
rule check_pair:
    input:
        left=lambda wc: ancient(f"{R}/backbones/{wc.left}/model"),
        left_manifest=lambda wc: f"{R}/backbones/{wc.left}/model.manifest.json",
        right=lambda wc: ancient(f"{R}/backbones/{wc.right}/model"),
        right_manifest=lambda wc: f"{R}/backbones/{wc.right}/model.manifest.json",
        corpora=[f"{R}/text/probes/{name}.jsonl" for name in STUDY.text.probes],
    output:
        report=f"{R}/pairs/{{left}}--vs--{{right}}.json",
    log:
        f"{R}/logs/check_pair/{{left}}--vs--{{right}}.log",
    threads: 1
    resources:
        **limits("check_pair", memory_gb=2),
    params:
        job=lambda wc: job("check_pair", pair_settings(wc)),
    shell:
        "realign check_pair --job {params.job:q} --log {log:q} --threads {threads}"
        " --left {input.left:q} --right {input.right:q} --corpora {input.corpora:q}"
        " --report {output.report:q}"


TARGETS["backbones"] = [
    *(f"{R}/tidy/backbones/{name}.parquet" for name in SCORED),
    *(f"{R}/pairs/{pair.name}.json" for pair in STUDY.pairs),
]
