# What the rules of traces.smk ask of the study.


def trace_writer(wildcards):
    """The backbone that writes the traces, where no endpoint does."""
    backbone = STUDY.traces.generator.backbone
    return artifact(f"{R}/backbones/{backbone}/model") if backbone else {}


def trace_problems(wildcards):
    """The problems of one set."""
    name = wildcards.dataset
    file = STUDY.traces.sets[name].file
    return own(f"traces.sets.{name}.file", file)


def counted_traces(wildcards):
    """One file for each set, released ones first."""
    released = [f"{TEXT}/fetched/{name}.parquet" for name in STUDY.traces.released]
    return released + [f"{TRACES}/{name}/traces.jsonl" for name in STUDY.traces.sets]
