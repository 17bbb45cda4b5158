"""Writes a study's description: the settings it was given are the result."""

from realign.artifacts.command import Job
from realign.study.description import Description


def run(job: Job[Description]) -> None:
    """Write `study.json`."""
    job.output("study").write_text(job.settings.model_dump_json(indent=1) + "\n", encoding="utf-8")
