# Needs: tidy results alone, and the published values that come with the package.
# Makes: tidy/study.json, a rule for each figure and table, the claims, and report.html.

from realign.plates.catalogue import PLATES
from realign.plates.plate import label_of
from realign.plan.plates import (
    claims_parts,
    claims_settings,
    filled,
    plate_parts,
    plate_settings,
    report_settings,
)
from realign.results.published import reference_files
from realign.plan.describe import describe


include: "../helpers/results.smk"


DESCRIPTION = describe(STUDY)
FILLED = filled(DESCRIPTION)
FIGURES = [name for name in FILLED if not PLATES[name].is_table]
TABLES = [name for name in FILLED if PLATES[name].is_table]
FORMS = {"figures": ("pdf", "png", "svg", "csv"), "tables": ("csv", "tex", "md")}


TARGETS["figures"] = [
    path for name in FIGURES for path in drawn("figures", name).values()
]
TARGETS["tables"] = [path for name in TABLES for path in drawn("tables", name).values()]
TARGETS["claims"] = [f"{R}/tidy/claims.parquet", f"{R}/claims/claims.md"]
TARGETS["report"] = [f"{R}/report.html"]


localrules:
    describe_study,
    figures,
    tables,
    paper,
    claims,
    report,


rule figures:
    input:
        TARGETS["figures"],


rule tables:
    input:
        TARGETS["tables"],


rule paper:
    input:
        TARGETS["figures"],
        TARGETS["tables"],
        TARGETS["claims"],
        TARGETS["report"],


rule describe_study:
    output:
        study=f"{R}/tidy/study.json",
    params:
        job=job("describe_study", DESCRIPTION),
    log:
        f"{R}/logs/describe_study.log",
    shell:
        "realign describe_study --job {params.job:q} --log {log:q} --study {output.study:q}"


for plate_name in PLATES:

    rule:
        name:
            plate_name
        localrule: True
        input:
            tidy=tidy(plate_parts(DESCRIPTION, plate_name)),
            reference=[str(p) for p in reference_files(PLATES[plate_name].references)],
        output:
            **shown("tables" if PLATES[plate_name].is_table else "figures", plate_name),
        params:
            job=job(plate_name, plate_settings(DESCRIPTION, plate_name)),
            plate=plate_name,
            caption=(PLATES[plate_name].heading, PLATES[plate_name].caption),
            places=places,
        log:
            f"{R}/logs/{plate_name}.log",
        threads: 1
        resources:
            **limits(plate_name, memory_gb=2, hours=0.5),
        shell:
            "realign {params.plate} --job {params.job:q} --log {log:q} --threads {threads}"
            " --tidy {input.tidy:q} --reference {input.reference:q} {params.places}"


rule claims:
    input:
        tidy=tidy(claims_parts(DESCRIPTION)),
    output:
        verdicts=f"{R}/tidy/claims.parquet",
        json=f"{R}/claims/claims.json",
        md=report(
            f"{R}/claims/claims.md", caption="../report/claims.rst", category="Claims"
        ),
    params:
        job=job("claims", claims_settings(DESCRIPTION)),
    log:
        f"{R}/logs/claims.log",
    threads: 1
    resources:
        **limits("claims", memory_gb=4, hours=0.5),
    shell:
        "realign claims --job {params.job:q} --log {log:q} --threads {threads} --tidy {input.tidy:q}"
        " --verdicts {output.verdicts:q} --json {output.json:q} --md {output.md:q}"


rule report:
    input:
        study=f"{R}/tidy/study.json",
        claims=f"{R}/tidy/claims.parquet",
        figures=[f"{R}/figures/{name}.svg" for name in FIGURES],
        tables=[f"{R}/tables/{name}.csv" for name in TABLES],
        notes=[f"{R}/tables/{name}.md" for name in TABLES],
    output:
        html=f"{R}/report.html",
    params:
        job=job("report", report_settings(DESCRIPTION)),
    log:
        f"{R}/logs/report.log",
    threads: 1
    resources:
        **limits("report", memory_gb=2, hours=0.5),
    shell:
        "realign report --job {params.job:q} --log {log:q} --threads {threads} --study {input.study:q}"
        " --claims {input.claims:q} --figures {input.figures:q} --tables {input.tables:q}"
        " --notes {input.notes:q} --html {output.html:q}"
