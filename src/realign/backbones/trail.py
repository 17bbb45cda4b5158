"""The trail of a run: its training states at declared steps, from which runs that stop there are made.

A run that stops at a step is a job of its own, and its result is what the whole run was at that step.
Where the whole run has left a state of that step, or of one before it, the job goes on from there. The
trail lies in the work store and only saves time: without it the same models are made from the first step on.
"""

from pathlib import Path
from typing import Any

from realign.artifacts.command import Job, identify
from realign.artifacts.store import work_key
from realign.backbones.site import Site
from realign.engine.checkpoints import Checkpoints
from realign.engine.deepspeed_setup import training_tensors
from realign.engine.loop import Loop


def trail_of(job: Job[Any]) -> Path:
    """Where a run's trail lies: the same place wherever the run stops."""
    settings = job.settings.as_slice() | {"stop": None}
    key = work_key(job.command.name, identify(job.inputs), settings, job.command.code)
    return job.work.folder.parent / f"trail-{key}"


class Trail:
    """One run's part in a trail; all processes call it together."""

    def __init__(self, site: Site[Any]):
        stop = site.settings.stop
        self.steps = {*site.settings.checkpoints, *([stop] if stop else [])}
        self.states, self.world = Checkpoints(site.trail, keep=None), site.world

    def take_up(self, loop: Loop, log: Path) -> None:
        """Let a run go on from the trail where that is further on than what it saved itself."""
        found = self.states.agreed(self.world, up_to=loop.steps) if self.steps else None
        if found and found.step > loop.start:
            loop.saved, loop.start = found, found.step
            if self.world.is_main:
                log.write_text(found.state["log"], encoding="utf-8")

    def mark(self, done: int, engine: Any, log: Path) -> None:
        """Leave the state of a declared step."""
        if done in self.steps:
            tensors, optimizer = training_tensors(engine)
            if self.world.is_main:
                state = {"optimizer": optimizer, "log": log.read_text(encoding="utf-8")}
                self.states.save(done, tensors, state)
            self.world.wait()
