# Text: corpora, evaluation sets and problems made from what is installed; training pairs and probe corpora
# from these, from local files and from hubs.
# Needs: nothing, or the files and hub datasets that the study names.
# Makes: {R}/text/…

from realign.study.text import SHAPES, SPLITS, TASKS, ProbeJob, corpora_job, problems_job
from realign.study.data import FetchJob, PairsJob

TEXT = f"{R}/text"


# Reads the docstrings and the source of installed packages; their versions are settings.
rule corpora:
    output:
        [f"{TEXT}/tasks/{task}.manifest.json" for task in TASKS],
        tasks=[directory(f"{TEXT}/tasks/{task}") for task in TASKS],
        pretrain=f"{TEXT}/pretrain.jsonl",
        shapes=[f"{TEXT}/embedded/{shape}.jsonl" for shape in SHAPES],
        docs=f"{TEXT}/embedded/docs.jsonl",
        stats=f"{TEXT}/corpora.stats.json",
    params:
        job=lambda wc: job("corpora", corpora_job(STUDY.text, STUDY.study.seed)),
    log:
        f"{R}/logs/corpora/corpora.log",
    benchmark:
        f"{R}/benchmarks/corpora/corpora.tsv"
    threads: 1
    resources:
        mem_mb=3000,
    shell:
        "realign corpora --job {params.job:q} --log {log:q} --threads {threads}"
        " --pretrain {output.pretrain:q} --docs {output.docs:q} --stats {output.stats:q}"
        + "".join(f" --{shape} {TEXT}/embedded/{shape}.jsonl" for shape in SHAPES)
        + "".join(f" --{task} {TEXT}/tasks/{task}" for task in TASKS)


# Makes problems with worked traces; the splits share no problem.
rule problems:
    output:
        stats=f"{TEXT}/problems.stats.json",
        reasoning=f"{TEXT}/embedded/reasoning.jsonl",
        **{split: f"{TEXT}/problems/{split}.jsonl" for split in SPLITS},
    params:
        job=lambda wc: job("problems", problems_job(STUDY.text, STUDY.study.seed)),
    log:
        f"{R}/logs/problems/problems.log",
    benchmark:
        f"{R}/benchmarks/problems/problems.tsv"
    threads: 1
    resources:
        mem_mb=1500,
    shell:
        "realign problems --job {params.job:q} --log {log:q} --threads {threads}"
        " --pretrain {output.pretrain:q} --train {output.train:q} --heldout {output.heldout:q}"
        " --reasoning {output.reasoning:q} --stats {output.stats:q}"
