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
from realign.runs.dag import PlannedJob, jobs_of
from realign.runs.flow import ACCEPTED, accepted_cost
from realign.study.study import Study


@dataclass(frozen=True)
class Redone:
    """Jobs that would be redone because those modules changed, and for no other reason."""

    modules: tuple[str, ...]
    rules: tuple[tuple[str, int], ...]  # with the number of jobs of each
    gpu_hours: float


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
        )
        for modules, members in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.gpu_hours, one.modules)))


def gpu_hours(found: Sequence[Redone]) -> float:
    """GPU-hours of all of it."""
    return sum(one.gpu_hours for one in found)


def describe(found: Sequence[Redone]) -> str:
    """What would be redone and which modules did it, a line each."""
    lines = [f"Because of code alone {gpu_hours(found):.3g} GPU-h would be redone:"]
    for one in found:
        rules = ", ".join(f"{rule} {count}" for rule, count in one.rules)
        lines.append(f"  {one.gpu_hours:>6.3g} GPU-h  {', '.join(one.modules)}: {rules}")
    return "\n".join(lines)


def how_to_go_on(found: Sequence[Redone]) -> str:
    """What a user does about it."""
    hours = int(gpu_hours(found)) + 1
    stages = " ".join(sorted({rule for one in found for rule, _ in one.rules if one.gpu_hours}))
    return (
        f"A run asks for `--config {ACCEPTED}={hours}`. If the change does not matter for the results, "
        f"say so: `realign touch --stage {stages} --reason '…'`."
    )


def guard(dag: Any, study: Study, config: Mapping[str, Any]) -> None:
    """Stop a run that would redo more than was allowed, before it has done anything."""
    jobs = jobs_of(dag)
    if not any(job.new_code for job in jobs):
        return
    found = redone(jobs, costs_of(jobs, study))
    if gpu_hours(found) > max(study.resources.redo_gpu_hours, accepted_cost(config)):
        from snakemake.exceptions import WorkflowError  # which Snakemake shows without a traceback

        raise WorkflowError(f"{describe(found)}\n{how_to_go_on(found)}")
