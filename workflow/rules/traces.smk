# Traces: sets of worked problems as texts, released ones fetched and counted, others generated anew.
# Needs: a hub for released sets; an endpoint or {R}/backbones/<backbone>/model to generate others.
# Makes: {R}/traces/<set>/traces.jsonl, {R}/traces/counts.csv
#        (asked for as `count_traces`; nothing of it is part of `all` unless a probe corpus names its file)

from realign.study.traces import CountJob


include: "../helpers/traces.smk"


TRACES = f"{R}/traces"


rule traces:
    input:
        unpack(trace_writer),
        problems=trace_problems,
    output:
        traces=f"{TRACES}/{{dataset}}/traces.jsonl",
        counts=f"{TRACES}/{{dataset}}/counts.csv",
    log:
        f"{R}/logs/traces/{{dataset}}.log",
    threads: threads_of("traces", 1)
    resources:
        **limits("traces", memory_gb=4, hours=24, gpus=0),
    params:
        job=lambda wc: job("traces", STUDY.traces.job(wc.dataset, STUDY.study.seed)),
    shell:
        "realign traces --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        f" --at-once {STUDY.traces.at_once}"
        " --problems {input.problems:q}"
        + (" --model {input.data:q}" if STUDY.traces.generator.backbone else "")
        + " --traces {output.traces:q} --counts {output.counts:q}"


rule count_traces:
    input:
        [
            f"{TEXT}/fetched/{name}.parquet.manifest.json"
            for name in STUDY.traces.released
        ],
        traces=counted_traces,
    output:
        counts=f"{TRACES}/counts.csv",
    log:
        f"{R}/logs/count_traces/counts.log",
    threads: 1
    resources:
        **limits("count_traces", memory_gb=2),
    params:
        job=lambda wc: job(
            "count_traces",
            CountJob(sets=(*STUDY.traces.released, *STUDY.traces.sets)),
        ),
    shell:
        "realign count_traces --job {params.job:q} --log {log:q} --threads {threads}"
        " --traces {input.traces:q} --counts {output.counts:q}"
