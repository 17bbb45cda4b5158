# Comparisons of two models: one job per comparison × corpus × attention mode × family of measures, as far as
# a family has corpora and modes. Rules are made from the table `realign.measures.families`.
# Needs: two models' states (pooled ones, with labels, for probes), or the models' folders.
# Makes: {R}/tidy/measures/{left}--vs--{right}/{corpus}+{attention}.{family}.parquet, and of the linear
# family the matrices worth keeping: {R}/matrices/{left}--vs--{right}/{corpus}+{attention}.h5.

from realign.commands import load_command
from realign.names import EmbedderId
from realign.plan.comparisons import comparisons
from realign.measures.families import FAMILIES


include: "../helpers/hrsa.smk"


COMPARED = {
    f"{comparison.name}/{file}": comparison
    for comparison in comparisons(STUDY)
    for file in comparison.files
}
TARGETS["measures"] = [f"{R}/tidy/measures/{path}.parquet" for path in COMPARED]


def compare(family):
    """The rule of one family. Within a function, since a rule's shell text is put together when its job runs."""

    rule:
        name:
            family.command
        input:
            unpack(sides_of(family)),
        output:
            **outputs_of(family),
        log:
            place_in(f"logs/{family.command}", family) + ".log",
        threads: threads_of(family.command, 1)
        resources:
            **limits(
                family.command,
                memory_gb=family.memory_gb,
                hours=family.hours,
                gpus=0 if family.gpus else None,
            ),
        params:
            job=lambda wc: job(
                family.command,
                STUDY.hrsa.job(family.name, context_of(wc, family), STUDY.study.seed),
            ),
        shell:
            f"realign {family.command} --job {{params.job:q}} --log {{log:q}} --threads {{threads}}"
            f"{' --gpus {resources.gpus_given}' if family.gpus else ''} {shell_flags(family)}"


for family in FAMILIES.values():
    compare(family)
