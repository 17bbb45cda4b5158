"""`realign run`: a thin front for Snakemake that checks the study first and ends with where its report is."""

import os
from collections.abc import Sequence
from pathlib import Path

from realign.engine.gpus import visible_gpus
from realign.runs.flow import DEFAULT_STUDY, changes_of, find_snakefile, have_a_cache, read_config
from realign.runs.tools import print_places
from realign.study.load import load_study

USAGE = """usage: realign run [STUDY] [SNAKEMAKE'S OPTIONS]

Run a study (default: config.yaml). All options go to Snakemake: --cores 8, --dry-run, --config KEY=VALUE,
--workflow-profile workflow/profiles/slurm; without --cores, --jobs or a profile it gets all cores."""
SAYS_HOW_MUCH = ("--cores", "-c", "--jobs", "-j", "--profile", "--workflow-profile", "--executor", "-e")

SAYS_WHERE = ("--resources", "--profile", "--workflow-profile", "--executor", "-e")


def main(words: Sequence[str]) -> int:
    """Check a study, run it, and say where its results are."""
    if words[:1] and words[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    options = list(words)
    file = Path(options.pop(0)) if options and not options[0].startswith("-") else DEFAULT_STUDY
    study = load_study(file, changes_of(read_config(_config_of(options))))
    own = [f"--configfile={file}"]  # with `=`, so that no target that follows is taken for another file
    if not any(word.startswith("--logger") for word in options):
        own.append("--logger=realign")
    if not {"--snakefile", "-s"} & set(options):
        own.append(f"--snakefile={find_snakefile()}")
    if not any(word.startswith(SAYS_HOW_MUCH) for word in options):
        own.append("--cores=all")
    elsewhere = "SNAKEMAKE_PROFILE" in os.environ or any(word.startswith(SAYS_WHERE) for word in options)
    if not elsewhere and (gpus := len(visible_gpus())):
        # Jobs that ask for more than are free wait for their turn. One that asks for more than there are is
        # let through, since it says so itself; Snakemake would give another reason.
        own.append(f"--resources=gpu={max(gpus, study.resources.most_gpus)}")
    code = _snakemake([*own, *options])
    if code == 0 and not {"-n", "--dry-run", "--dryrun"} & set(options):
        print_places(study)
    return code


def _config_of(options: Sequence[str]) -> list[str]:
    """The words that follow `--config`."""
    found: list[str] = []
    inside = False
    for word in options:
        inside = word in ("--config", "-C") or (inside and not word.startswith("-"))
        if inside and not word.startswith("-"):
            found.append(word)
    return found


def _snakemake(options: list[str]) -> int:
    """Snakemake in this process, which a signal therefore reaches as if it had been started itself."""
    from snakemake.cli import main as snakemake

    have_a_cache()
    try:
        snakemake(options)
    except SystemExit as end:
        return int(end.code or 0)
    return 0
