"""Where Snakemake looks for `--logger realign`: a package of this name."""

from realign.runs.output import RunOutput as LogHandler

__all__ = ["LogHandler"]
