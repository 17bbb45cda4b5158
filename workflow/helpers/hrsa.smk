# What the rules of hrsa.smk ask of the study.


def unit_of(wc, family):
    """The comparison that a job's wildcards name."""
    return UNITS[wc.comparison, wc.corpus, wc.attention, family]


def compare_job(family):
    """A rule's parameter: the settings slice of its family, with what the comparison stands for."""

    def of(wc):
        context = unit_of(wc, family).context(STUDY)
        return job(f"hrsa_{family}", STUDY.hrsa.job(family, context, STUDY.study.seed))

    return of


def states_of(family, suffix=""):
    """Both models' states: their manifests decide, their data must be there."""

    def of(wc):
        comparison = unit_of(wc, family).comparison
        files = [
            f"{R}/states/{model}/{wc.corpus}+{wc.attention}{suffix}.h5"
            for model in (comparison.left, comparison.right)
        ]
        return dict(
            manifests=[f"{path}.manifest.json" for path in files],
            left=ancient(files[0]),
            right=ancient(files[1]),
        )

    return of
