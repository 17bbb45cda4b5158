# Similarity analysis: one job per comparison × corpus × attention mode × family of measures.
# Needs: two models' states (pooled ones, with labels, for probes).
# Makes: {R}/tidy/measures/{left}--vs--{right}/{corpus}+{attention}.{family}.parquet, and of the linear
# family the matrices worth keeping: {R}/matrices/{left}--vs--{right}/{corpus}+{attention}.h5.

from realign.plan.comparisons import measure_units


include: "../helpers/hrsa.smk"


MEASURES = f"{R}/tidy/measures/{{comparison}}/{{corpus}}+{{attention}}"
MATRICES = f"{R}/matrices/{{comparison}}/{{corpus}}+{{attention}}"
UNITS = {
    (u.comparison.name, u.corpus, u.attention, u.family): u
    for u in measure_units(STUDY)
}
TARGETS["measures"] = [f"{R}/tidy/{unit.path}" for unit in UNITS.values()]


rule hrsa_linear:
    input:
        unpack(states_of("linear")),
    output:
        f"{MATRICES}.h5.manifest.json",
        matrices=f"{MATRICES}.h5",
        measures=f"{MEASURES}.linear.parquet",
    log:
        f"{R}/logs/hrsa_linear/{{comparison}}/{{corpus}}+{{attention}}.log",
    benchmark:
        f"{R}/benchmarks/hrsa_linear/{{comparison}}/{{corpus}}+{{attention}}.tsv"
    threads: threads_of("hrsa_linear", 1)
    resources:
        **limits("hrsa_linear", 4, 4, gpus=0),
    params:
        job=compare_job("linear"),
    shell:
        "realign hrsa_linear --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " --left {input.left:q} --right {input.right:q}"
        " --measures {output.measures:q} --matrices {output.matrices:q}"


rule hrsa_neighbours:
    input:
        unpack(states_of("neighbours")),
    output:
        measures=f"{MEASURES}.neighbours.parquet",
    log:
        f"{R}/logs/hrsa_neighbours/{{comparison}}/{{corpus}}+{{attention}}.log",
    benchmark:
        f"{R}/benchmarks/hrsa_neighbours/{{comparison}}/{{corpus}}+{{attention}}.tsv"
    threads: threads_of("hrsa_neighbours", 1)
    resources:
        **limits("hrsa_neighbours", 4, 4, gpus=0),
    params:
        job=compare_job("neighbours"),
    shell:
        "realign hrsa_neighbours --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " --left {input.left:q} --right {input.right:q} --measures {output.measures:q}"


rule hrsa_probe:
    input:
        unpack(states_of("probe", ".pooled")),
    output:
        measures=f"{MEASURES}.probe.parquet",
    log:
        f"{R}/logs/hrsa_probe/{{comparison}}/{{corpus}}+{{attention}}.log",
    benchmark:
        f"{R}/benchmarks/hrsa_probe/{{comparison}}/{{corpus}}+{{attention}}.tsv"
    threads: threads_of("hrsa_probe", 1)
    resources:
        **limits("hrsa_probe", 4, 4),
    params:
        job=compare_job("probe"),
    shell:
        "realign hrsa_probe --job {params.job:q} --log {log:q} --threads {threads}"
        " --left {input.left:q} --right {input.right:q} --measures {output.measures:q}"


rule hrsa_extra:
    input:
        unpack(states_of("extra")),
    output:
        measures=f"{MEASURES}.extra.parquet",
    log:
        f"{R}/logs/hrsa_extra/{{comparison}}/{{corpus}}+{{attention}}.log",
    benchmark:
        f"{R}/benchmarks/hrsa_extra/{{comparison}}/{{corpus}}+{{attention}}.tsv"
    threads: threads_of("hrsa_extra", 1)
    resources:
        **limits("hrsa_extra", 4, 2, gpus=0),
    params:
        job=compare_job("extra"),
    shell:
        "realign hrsa_extra --job {params.job:q} --log {log:q} --threads {threads} --gpus {resources.gpus_given}"
        " --left {input.left:q} --right {input.right:q} --measures {output.measures:q}"
