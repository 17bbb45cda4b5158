# What the rules of text.smk ask of the study.


def text_source(name, source):
    """The file that a dataset or a probe corpus is made from, as a rule's input."""
    if source.embedded:
        return dict(source=f"{TEXT}/embedded/{source.embedded}.jsonl")
    if source.file:
        return dict(source=source.file)
    table = f"{TEXT}/fetched/{name}.parquet"
    return dict(manifest=f"{table}.manifest.json", source=ancient(table))


def hub_source(name):
    """The hub dataset behind a fetched table, whether pairs or probe texts are made from it."""
    return (STUDY.data.datasets | STUDY.text.probes)[name].hub
