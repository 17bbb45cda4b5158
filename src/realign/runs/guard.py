"""The guard on expensive reruns: an edited module must not send days of training off unnoticed.

A run says at its start what it would redo though nothing but code changed, and stops where that is
more GPU-hours than the study allows, unless its user accepted them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from realign.runs.causes import redone_for_code
from realign.runs.cost import Cost, costs_of
from realign.runs.dag import PlannedJob
from realign.runs.flow import ACCEPTED, accepted_cost
from realign.study.resources import Resources
from realign.study.study import Study

NEXT_TO_NOTHING = 0.1  # hours


@dataclass(frozen=True)
class Redone:
    """Jobs that would be redone because those modules changed, and for no other reason."""

    modules: tuple[str, ...]
    rules: tuple[tuple[str, int], ...]  # with the number of jobs of each
    gpu_hours: float
    cpu_hours: float = 0.0


def redone(jobs: Sequence[PlannedJob], costs: Mapping[str, Cost]) -> tuple[Redone, ...]:
    """What costs compute again because of code alone, dearest first; kept work costs nothing."""
    groups: dict[tuple[str, ...], list[PlannedJob]] = {}
    because = redone_for_code(jobs)
    for job in jobs:
        if job.name in because and costs[job.name].source != "kept":
            groups.setdefault(because[job.name], []).append(job)
    found = [
        Redone(
            modules,
            tuple(sorted(Counter(job.rule for job in members).items())),
            sum(costs[job.name].gpu_hours for job in members),
            sum(costs[job.name].cpu_hours for job in members),
        )
        for modules, members in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.gpu_hours, -one.cpu_hours, one.modules)))


def gpu_hours(found: Sequence[Redone]) -> float:
    """GPU-hours of all of it."""
    return sum(one.gpu_hours for one in found)


def cpu_hours(found: Sequence[Redone]) -> float:
    """CPU-hours of all of it that needs no GPU."""
    return sum(one.cpu_hours for one in found)


def is_too_much(found: Sequence[Redone], limits: Resources, accepted: float = 0.0) -> bool:
    """Whether a run stops for it."""
    return gpu_hours(found) > max(limits.redo_gpu_hours, accepted) or cpu_hours(found) > max(
        limits.redo_cpu_hours, accepted
    )


def named(found: Sequence[Redone]) -> list[Redone]:
    """What is listed with its modules: all that costs something, or everything where nothing does."""
    return [one for one in found if one.gpu_hours + one.cpu_hours >= NEXT_TO_NOTHING] or list(found)


def describe(found: Sequence[Redone]) -> str:
    """What would be redone and which modules did it, a line each; what costs next to nothing in one."""
    lines = [f"Because of code alone {_say(gpu_hours(found), cpu_hours(found))} would be redone:"]
    dear = named(found)
    for one in dear:
        rules = ", ".join(f"{rule} {count}" for rule, count in one.rules)
        lines.append(f"  {_say(one.gpu_hours, one.cpu_hours)}  {', '.join(one.modules)}: {rules}")
    if rest := sum(count for one in found if one not in dear for _, count in one.rules):
        lines.append(f"  {rest} jobs that cost next to nothing")
    return "\n".join(lines)


def _say(gpu: float, cpu: float) -> str:
    said = [f"{hours:.3g} {unit}" for hours, unit in ((gpu, "GPU-h"), (cpu, "CPU-h")) if hours >= 0.005]
    return " and ".join(said) or "next to nothing"


def how_to_go_on(found: Sequence[Redone]) -> str:
    """What a user does about it."""
    hours = int(max(gpu_hours(found), cpu_hours(found))) + 1
    dear = named(found)
    stages = " ".join(sorted({rule for one in dear for rule, _ in one.rules}))
    return (
        f"A run asks for `--config {ACCEPTED}={hours}`. If the change does not matter for the results, "
        f"say so: `realign touch --stage {stages} --reason '…'`."
    )


def guard(jobs: Sequence[PlannedJob], study: Study, config: Mapping[str, Any]) -> None:
    """Stop a run that would redo more than was allowed, before it has done anything."""
    if not any(job.new_code for job in jobs):
        return
    found = redone(jobs, costs_of(jobs, study))
    if is_too_much(found, study.resources, accepted_cost(config)):
        from snakemake.exceptions import WorkflowError  # which Snakemake shows without a traceback

        raise WorkflowError(f"{describe(found)}\n{how_to_go_on(found)}")
