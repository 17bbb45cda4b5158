# Realign: from backbones and raw pairs to the paper's figures, tables and verdicts.
# Choose a study with --configfile studies/mine.yaml; config.yaml is the embedded one.


include: "workflow/rules/common.smk"


rule all:
    input:
        lambda wc: [path for paths in TARGETS.values() for path in paths],
    default_target: True


# In the order the data flows; each file adds its targets to TARGETS.
include: "workflow/rules/text.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/mine.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/traces.smk"
include: "workflow/rules/states.smk"
include: "workflow/rules/hrsa.smk"
include: "workflow/rules/results.smk"


# Each stage's results as a target of their own: snakemake all_train, all_measures, …
for stage in TARGETS:

    rule:
        name:
            f"all_{stage}"
        input:
            targets_of(stage),
