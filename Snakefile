# So that a clone runs with `snakemake --cores 2`. The workflow itself is in workflow/Snakefile.


include: "workflow/Snakefile"


workflow.default_target = (
    "all"  # which an included file can't set for those that include it
)
