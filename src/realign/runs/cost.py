"""What jobs cost: as measured by the work they sealed before, else from a stated estimate."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from realign.runs.dag import PlannedJob
from realign.runs.flow import backbone_in
from realign.study.resources import Resources

# Hours of a job that was never measured and for which the study states none: a guess, said as one.
UNMEASURED_HOURS = {"train": 1.0, "rlvr": 1.0, "sft": 0.5, "pretrain": 0.5, "extract": 0.1, "evaluate": 0.1}
OTHER_HOURS = 0.01


@dataclass(frozen=True)
class Cost:
    """Hours of wall clock and of GPUs, and where the number comes from."""

    hours: float
    gpu_hours: float
    source: str  # measured, study or guess


def measured_hours(store: Path) -> dict[str, float]:
    """The median hours that each command's work took, from what the work store sealed.

    The workflow's own benchmark files would not do: a job that only publishes sealed work again
    leaves a second there in place of hours.
    """
    seconds: dict[str, list[float]] = {}
    for path in sorted(store.glob("*/sealed.json")):
        try:
            made = json.loads(path.read_text(encoding="utf-8"))["provenance"]
            seconds.setdefault(made["command"], []).append(float(made["seconds"]))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            continue  # damaged or of another version: no measurement
    return {command: statistics.median(values) / 3600 for command, values in seconds.items()}


def cost_of(job: PlannedJob, measured: Mapping[str, float], resources: Resources) -> Cost:
    """What a job is expected to cost."""
    asked = resources.of(job.rule, backbone_in(job.wildcards))
    if job.rule in measured:
        hours, source = measured[job.rule], "measured"
    elif stated := asked.usual_hours or asked.hours:
        hours, source = stated, "study"
    else:
        hours, source = UNMEASURED_HOURS.get(job.rule, OTHER_HOURS), "guess"
    gpus = float(job.resources.get("gpu", 0) or 0) * float(job.resources.get("nodes", 1) or 1)
    return Cost(hours, hours * gpus, source)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum; its source is the least certain of its parts."""
    costs = list(costs)
    order = ("measured", "study", "guess")
    source = max((c.source for c in costs), key=order.index, default="measured")
    return Cost(sum(c.hours for c in costs), sum(c.gpu_hours for c in costs), source)
