"""Publishing one declared checkpoint of a training."""

from realign.artifacts.command import Job, UserError
from realign.artifacts.files import link_tree
from realign.study.recipe import PublishCheckpoint


def run(job: Job[PublishCheckpoint]) -> None:
    """Make the embedder of one step an artifact of its own; large files are linked, not copied."""
    kept = job.input("checkpoints")
    source = kept / f"step{job.settings.step}"
    if not source.is_dir():
        found = ", ".join(sorted(p.name for p in kept.glob("step*"))) or "none"
        raise UserError(f"{kept} holds no checkpoint of step {job.settings.step} (there: {found})")
    link_tree(source, job.output("model"))
