"""What jobs cost: as measured when they or their like were made, else from a stated estimate."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realign.commands import DONE_BY
from realign.measures.families import FAMILIES
from realign.runs.dag import PlannedJob
from realign.runs.flow import backbone_in
from realign.runs.kept import kept_jobs
from realign.study.resources import Resources
from realign.study.sources import SOURCES
from realign.study.study import Study

# Hours of a job that was never measured and for which the study states none: a guess, said as one.
UNMEASURED_HOURS = {
    **{name: source.hours for name, source in SOURCES.items() if source.hours},
    **{"train": 1.0, "mine": 0.1, "extract": 0.1, "evaluate": 0.1},
    **dict.fromkeys(("evaluate_warm", "traces"), 0.5),
    **{family.command: family.usual_hours for family in FAMILIES.values()},
}
OTHER_HOURS = 0.002
PUBLISHING_HOURS = 1 / 3600
CERTAINTY = ("kept", "measured", "study", "guess")  # from the most to the least certain


@dataclass(frozen=True)
class Cost:
    """Hours of wall clock and of GPUs, and where the number comes from: one of `CERTAINTY`."""

    hours: float
    gpu_hours: float
    source: str
    cpu_hours: float = 0.0  # of jobs without GPUs


def costs_of(jobs: Sequence[PlannedJob], study: Study) -> dict[str, Cost]:
    """What each job is expected to cost, by its name."""
    measured = measured_hours(Path("results") / study.study.name / ".work")
    kept = kept_jobs(jobs)
    return {job.name: cost_of(job, measured, study.resources, job.name in kept) for job in jobs}


def measured_hours(store: Path) -> dict[str, float]:
    """The median hours that each command's work took, from what the work store sealed."""
    seconds: dict[str, list[float]] = {}
    for path in sorted(store.glob("*/sealed.json")):
        try:
            made = json.loads(path.read_text(encoding="utf-8"))["provenance"]
            command, taken = made["command"], float(made["seconds"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            continue  # damaged or of another version: no measurement
        seconds.setdefault(command, []).append(taken)
    return {command: statistics.median(values) / 3600 for command, values in seconds.items()}


def cost_of(job: PlannedJob, measured: Mapping[str, float], resources: Resources, kept: bool = False) -> Cost:
    """What a job is expected to cost: its own last time, else what is known of its rule."""
    if kept:
        return Cost(0, 0, "kept")
    if job.rule in DONE_BY:  # its work is another job's, and counted there
        return Cost(PUBLISHING_HOURS, 0, "guess")
    hours, source = _hours(job, measured, resources)
    gpus = _gpus(job.resources)
    return Cost(hours, hours * gpus, source, 0.0 if gpus else hours * int(job.resources.get("_cores") or 1))


def _gpus(resources: Mapping[str, Any]) -> int:
    """A job's GPUs: counted as one, or by node where it has several."""
    on_each_node = int(str(resources.get("gres") or "0").rsplit(":", 1)[-1])
    return int(resources.get("gpu") or 0) or on_each_node * int(resources.get("nodes") or 1)


def _hours(job: PlannedJob, measured: Mapping[str, float], resources: Resources) -> tuple[float, str]:
    if job.record:
        return job.record["seconds"] / 3600, "measured"
    backbone = backbone_in(job.wildcards)
    own = resources.backbones.get(backbone or "", {}).get(job.rule)
    if own and (stated := own.usual_hours or own.hours):  # others' times say little of one set apart
        return stated, "study"
    if job.rule in measured:
        return measured[job.rule], "measured"
    asked = resources.of(job.rule, backbone)
    if stated := asked.usual_hours or asked.hours:
        return stated, "study"
    return UNMEASURED_HOURS.get(job.rule, OTHER_HOURS), "guess"


def total(costs: Iterable[Cost]) -> Cost:
    """The sum; its source is the least certain of its parts."""
    costs = list(costs)
    source = max((c.source for c in costs), key=CERTAINTY.index, default="measured")
    hours, gpu, cpu = (sum(getattr(c, name) for c in costs) for name in ("hours", "gpu_hours", "cpu_hours"))
    return Cost(hours, gpu, source, cpu)
