# What the rules of hrsa.smk ask of the study.


def place_in(folder, family):
    """Where a comparison's files of a family lie below a folder of the results; wildcards as in rules."""
    place = family.place("{corpus}", "{attention}")
    return str(Path(R, folder, "{comparison}", place))


def outputs_of(family):
    """The measures of one job, and its further outputs with their manifests."""
    measures = family.file("{corpus}", "{attention}")
    made = dict(measures=f"{R}/tidy/measures/{{comparison}}/{measures}.parquet")
    for name in family.outputs:
        made[name] = place_in(name, family) + ".h5"
        made[f"{name}_manifest"] = f"{made[name]}.manifest.json"
    return made


def shell_flags(family):
    """The inputs and outputs of a family's command, as a rule's shell names them."""
    command = load_command(family.command)
    files = [(name, "input") for name in command.inputs]
    files += [(name, "output") for name in command.outputs]
    return " ".join(
        f"--{name.replace('_', '-')} {{{kind}.{name}:q}}" for name, kind in files
    )


def comparison_of(wc, family):
    """The comparison that a job's wildcards name."""
    file = family.file(wc.get("corpus", ""), wc.get("attention", ""))
    return COMPARED[f"{wc.comparison}/{file}"]


def context_of(wc, family):
    """What a job's comparison stands for, which stands in every row that it writes."""
    corpus = wc.get("corpus", "")
    return comparison_of(wc, family).context(STUDY.study.name, corpus)


def origins_of(comparison):
    """The backbones of both embedders, and the left embedder of another seed where there is one."""
    further = dict(
        left_origin=EmbedderId.parse(comparison.left).backbone,
        right_origin=EmbedderId.parse(comparison.right).backbone,
        left_other=comparison.other_seed,
    )
    folders = {name: folder_of(model) for name, model in further.items() if model}
    manifests = [f"{folder}.manifest.json" for folder in folders.values()]
    given = {name: ancient(folder) for name, folder in folders.items()}
    return {"left_other": [], **given, "origin_manifests": manifests}


def sides_of(family):
    """What a family reads of both models: their manifests decide, their data must be there."""

    def data_of(model, wc):
        if family.reads == "models":
            return folder_of(model)
        suffix = ".pooled" if family.reads == "pooled" else ""
        return f"{R}/states/{model}/{wc.corpus}+{wc.attention}{suffix}.h5"

    def of(wc):
        left, right = (data_of(m, wc) for m in comparison_of(wc, family).models)
        inputs = dict(
            manifests=[f"{path}.manifest.json" for path in (left, right)],
            left=ancient(left),
            right=ancient(right),
        )
        if family.heads:
            folders = [folder_of(model) for model in comparison_of(wc, family).models]
            inputs |= dict(
                model_manifests=[f"{folder}.manifest.json" for folder in folders],
                left_model=ancient(folders[0]),
                right_model=ancient(folders[1]),
            )
        if family.heads or (family.reads == "models" and family.corpus):
            inputs["corpus"] = f"{R}/text/probes/{wc.corpus}.jsonl"
        if family.origins:
            inputs |= origins_of(comparison_of(wc, family))
        return inputs

    return of
