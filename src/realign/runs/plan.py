"""`realign plan`: what a run would do, why, and what it would cost, before it does anything."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.commands import order
from realign.runs.causes import explain
from realign.runs.cost import Cost, costs_of, total
from realign.runs.dag import PlannedJob, planned_jobs
from realign.runs.flow import changes_of, choose_study, find_snakefile
from realign.runs.guard import Redone, describe, gpu_hours, how_to_go_on, redone
from realign.study.load import load_study
from realign.study.study import Study


@dataclass(frozen=True)
class Step:
    """The jobs of one rule that would run for the same reason."""

    rule: str
    why: str
    jobs: tuple[PlannedJob, ...]
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """The steps of a run, and what of it would be redone because of code alone."""

    steps: tuple[Step, ...]
    redone: tuple[Redone, ...]
    limit: float  # GPU-hours that a run redoes without asking


def main(words: Sequence[str]) -> int:
    """Print the plan of a run."""
    parser = argparse.ArgumentParser("realign plan", description=__doc__)
    parser.add_argument("targets", nargs="*", help="rules or files to make (default: everything)")
    parser.add_argument("--configfile", type=Path, help="the study (default: config.yaml)")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the study")
    parser.add_argument("--snakefile", type=Path, help="the workflow (default: this project's Snakefile)")
    parser.add_argument("--jobs", action="store_true", help="also list each job")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    arguments = parser.parse_args(words)
    snakefile = arguments.snakefile or find_snakefile()
    plan = make_plan(snakefile, arguments.configfile, read_config(arguments.config), arguments.targets)
    print(json.dumps(_as_json(plan), indent=1) if arguments.json else render(plan, arguments.jobs))
    return 0


def read_config(words: Sequence[str]) -> dict[str, Any]:
    """What `--config` says, read as a run reads it, so that the same words fit both."""
    from snakemake.cli import parse_config

    for word in words:
        path, _, value = word.partition("=")
        if "." in path:
            *sections, last = path.split(".")
            nested = f"{{{last}: {value}}}"
            for section in reversed(sections[1:]):
                nested = f"{{{section}: {nested}}}"
            raise UserError(f"--config takes no dots in a key; write '{sections[0]}={nested}'")
    try:
        return parse_config(list(words))
    except ValueError as error:
        raise UserError(f"--config: {error}") from None


def make_plan(
    snakefile: Path,
    configfile: Path | None = None,
    config: Mapping[str, Any] | None = None,
    targets: Sequence[str] = (),
) -> Plan:
    """The steps of a run, in the order that the data flows."""
    study, jobs = planned(snakefile, configfile, config or {}, targets)
    costs = costs_of(jobs, study)
    groups: dict[tuple[str, str, bool], list[PlannedJob]] = {}
    for job in sorted(jobs, key=lambda job: job.name):
        groups.setdefault((job.rule, explain(job), costs[job.name].source == "kept"), []).append(job)
    steps = [
        Step(rule, why, tuple(members), total(costs[job.name] for job in members))
        for (rule, why, _), members in sorted(groups.items(), key=_flow_order)
    ]
    return Plan(tuple(steps), redone(jobs, costs), study.resources.redo_gpu_hours)


def planned(
    snakefile: Path, configfile: Path | None, config: Mapping[str, Any], targets: Sequence[str] = ()
) -> tuple[Study, list[PlannedJob]]:
    """A study, checked before Snakemake sees it, and its planned jobs."""
    study_file = choose_study(snakefile.parent / "config.yaml", [configfile] if configfile else [])
    study = load_study(study_file, changes_of(config))
    return study, planned_jobs(snakefile, Path.cwd(), configfile, config, targets)


def _flow_order(group: tuple[tuple[str, str, bool], list[PlannedJob]]) -> tuple[Any, ...]:
    """By where a rule stands in the flow of data."""
    (rule, why, kept), _ = group
    return (order(rule), rule, why, kept)


def render(plan: Plan, each_job: bool = False) -> str:
    """The plan as a person reads it."""
    if not plan.steps:
        return "Nothing to be done."
    lines = []
    for step in plan.steps:
        lines.append(f"{step.rule:<18} {len(step.jobs):>6,}  {_hours(step.cost):<32} {step.why}")
        if each_job:
            lines += [f"    {job.name}" for job in step.jobs]
    whole = total(step.cost for step in plan.steps)
    count = sum(len(step.jobs) for step in plan.steps)
    head = f"{'rule':<18} {'jobs':>6}  {'cost':<32} why"
    tail = [f"{'all':<18} {count:>6,}  {_hours(whole)}"]
    if plan.redone:
        tail += ["", describe(plan.redone)]
        if gpu_hours(plan.redone) > plan.limit:
            tail.append(how_to_go_on(plan.redone))
    return "\n".join([head, *lines, *tail])


def _hours(cost: Cost) -> str:
    if cost.source == "kept":
        return "kept: seconds"
    mark = {"measured": "", "study": " (stated)", "guess": " (guessed)"}[cost.source]
    gpu = f"{_figure(cost.gpu_hours)} GPU-h, " if cost.gpu_hours else ""
    wall = f"{_figure(cost.hours)} h" if cost.hours >= 1 else f"{cost.hours * 60:.2g} min"
    return f"{gpu}{wall}{mark}"


def _figure(value: float) -> str:
    """Three figures that count, large numbers whole."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _as_json(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "rule": step.rule,
            "why": step.why,
            "jobs": [job.name for job in step.jobs],
            "hours": step.cost.hours,
            "gpu_hours": step.cost.gpu_hours,
            "source": step.cost.source,
        }
        for step in plan.steps
    ]
