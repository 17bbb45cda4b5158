# States: the hidden states of every layer, once for each model, corpus and attention mode.
# Needs: {R}/text/probes/<corpus>.jsonl, {R}/backbones/<backbone>/model, {R}/embedders/<embedder>/model
# Makes: {R}/states/<model>/<corpus>+<attention>.h5 (tokens) and ….pooled.h5 (a row for each text);
#        the comparisons ask for them.


include: "../helpers/states.smk"


STATES = f"{R}/states/{{model}}/{{corpus}}+{{attention}}"


rule extract:
    input:
        unpack(lambda wc: artifact(folder_of(wc.model))),
        checks=lambda wc: checks_of(wc.model.split("+")[0]),
        corpus=f"{R}/text/probes/{{corpus}}.jsonl",
    output:
        states=f"{STATES}.h5",
        states_manifest=f"{STATES}.h5.manifest.json",
        pooled=f"{STATES}.pooled.h5",
        pooled_manifest=f"{STATES}.pooled.h5.manifest.json",
    log:
        f"{R}/logs/extract/{{model}}/{{corpus}}+{{attention}}.log",
    threads: threads_of("extract", 1)
    resources:
        **limits("extract", memory_gb=4, hours=2, gpus=0),
    params:
        job=lambda wc: job(
            "extract",
            STUDY.states.extract(wc.model, wc.corpus, wc.attention, STUDY.study.seed),
        ),
    shell:
        "realign extract --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        f" --hardware.token-budget {STUDY.states.hardware.token_budget}"
        f" --hardware.processes {STUDY.states.hardware.processes or 'null'}"
        " --model {input.data:q} --corpus {input.corpus:q}"
        " --states {output.states:q} --pooled {output.pooled:q}"
