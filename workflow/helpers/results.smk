# What the rules of results.smk ask of the study.


def tidy(parts):
    """Parts of the tidy results as paths."""
    return [f"{R}/tidy/{part.path}" for part in parts]


def drawn(kind, name):
    """A figure's or a table's files by form."""
    return {form: f"{R}/{kind}/{name}.{form}" for form in FORMS[kind]}


def shown(kind, name):
    """The same for a rule's output, the form for pages being listed in the Snakemake report."""
    page = "svg" if kind == "figures" else "csv"
    labels = {kind[:-1]: label_of(name), "shows": PLATES[name].title}
    page_entry = report(
        drawn(kind, name)[page],
        caption="../report/plate.rst",
        category=PLATES[name].category,
        labels=labels,
    )
    return drawn(kind, name) | {page: page_entry}


def places(wildcards, output):
    """A plate's files as flags; a function, since a loop's rules read shared names when they run."""
    return " ".join(f"--{form} {path}" for form, path in output.items())
