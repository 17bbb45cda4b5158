"""`realign plan`: what a run would do, why, and what it would cost, before it does anything."""

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from realign.commands import order
from realign.runs.calls import call_lines
from realign.runs.causes import explain
from realign.runs.cost import Cost, costs_of, total
from realign.runs.dag import PlannedJob, planned_jobs
from realign.runs.flow import DEFAULT_STUDY, changes_of, find_snakefile, read_config
from realign.runs.guard import Redone, describe, how_to_go_on, is_too_much, redone
from realign.runs.memory import memory_lines
from realign.study.load import load_study
from realign.study.resources import Resources
from realign.study.study import Study

# A rule all of whose jobs cost less than this, or than this share of the plan, gets no line of its own.
SMALL_HOURS = 0.25 / 60
SMALL_SHARE = 0.01
FOLLOW = "follow what runs before them"  # the cause of steps that have none of their own


@dataclass(frozen=True)
class Step:
    """The jobs of one rule that would run for the same reason."""

    rule: str
    why: str
    jobs: tuple[PlannedJob, ...]
    cost: Cost


@dataclass(frozen=True)
class RunPlan:
    """The steps of a run, and what of it would be redone because of code alone."""

    steps: tuple[Step, ...]
    redone: tuple[Redone, ...]
    limits: Resources  # with the hours that a run redoes without asking
    memory: tuple[str, ...] = ()  # what trainings need of their GPUs, in words
    calls: tuple[str, ...] = ()  # what is asked of a chat endpoint, in words


def main(words: Sequence[str]) -> int:
    """Print the plan of a run."""
    parser = argparse.ArgumentParser("realign plan", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="[STUDY] TARGET",
        help="a study file; rules or files to make (default: all)",
    )
    parser.add_argument("--configfile", type=Path, help="the study (default: config.yaml)")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the study")
    parser.add_argument("--snakefile", type=Path, help="the workflow (default: this project's Snakefile)")
    parser.add_argument("--all", action="store_true", help="a line for each rule, however little it costs")
    parser.add_argument("--jobs", action="store_true", help="that, and also list each job")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    arguments = parser.parse_args(words)
    if arguments.targets and not arguments.configfile and _is_study(arguments.targets[0]):
        arguments.configfile = Path(arguments.targets.pop(0))
    snakefile = arguments.snakefile or find_snakefile()
    plan = make_plan(snakefile, arguments.configfile, read_config(arguments.config), arguments.targets)
    if arguments.json:
        print(json.dumps(_as_json(plan), indent=1))
    else:
        print(render(plan, each_rule=arguments.all, each_job=arguments.jobs))
    return 0


def _is_study(word: str) -> bool:
    """Whether a word names a study rather than a target: a rule, or a file below the results."""
    path = Path(word)
    return path.suffix in (".yaml", ".yml") or (path.is_file() and path.parts[:1] != ("results",))


def make_plan(
    snakefile: Path,
    configfile: Path | None = None,
    config: Mapping[str, Any] | None = None,
    targets: Sequence[str] = (),
) -> RunPlan:
    """The steps of a run, in the order that the data flows."""
    study, jobs = planned(snakefile, configfile, config or {}, targets)
    plan = plan_of(jobs, costs_of(jobs, study), study.resources)
    return replace(plan, memory=tuple(memory_lines(study, jobs)), calls=tuple(call_lines(study, jobs)))


def plan_of(jobs: Sequence[PlannedJob], costs: Mapping[str, Cost], limits: Resources) -> RunPlan:
    """Planned jobs as steps: the jobs of a rule that would run for the same reason."""
    groups: dict[tuple[str, str, bool], list[PlannedJob]] = {}
    for job in sorted(jobs, key=lambda job: job.name):
        groups.setdefault((job.rule, explain(job), costs[job.name].source == "kept"), []).append(job)
    steps = [
        Step(rule, why, tuple(members), total(costs[job.name] for job in members))
        for (rule, why, _), members in sorted(groups.items(), key=_flow_order)
    ]
    return RunPlan(tuple(steps), redone(jobs, costs), limits)


def planned(
    snakefile: Path, configfile: Path | None, config: Mapping[str, Any], targets: Sequence[str] = ()
) -> tuple[Study, list[PlannedJob]]:
    """A study, checked before Snakemake sees it, and its planned jobs."""
    configfile = configfile or DEFAULT_STUDY
    study = load_study(configfile, changes_of(config))
    return study, planned_jobs(snakefile, Path.cwd(), configfile, config, targets)


def _flow_order(group: tuple[tuple[str, str, bool], list[PlannedJob]]) -> tuple[Any, ...]:
    """By where a rule stands in the flow of data."""
    (rule, why, kept), _ = group
    return (order(rule), rule, why, kept)


def render(plan: RunPlan, each_rule: bool = False, each_job: bool = False) -> str:
    """The plan as a person reads it; what costs next to nothing shares a line unless each is asked for."""
    if not plan.steps:
        return "Nothing to be done."
    detailed = each_rule or each_job
    rows = [[step] for step in plan.steps] if detailed else _rows(plan.steps)
    lines = [f"{'rule':<18} {'jobs':>6}  {'cost':<32} why"]
    for row in rows:
        lines.append(_row(row, detailed))
        if each_job:
            lines += [f"    {job.name}" for step in row for job in step.jobs]
    lines.append(_line("all", plan.steps, _say_sum(plan.steps)))
    if len(rows) < len(plan.steps):
        lines.append("(realign plan --all: a line for each rule)")
    for further in (plan.memory, plan.calls):
        if further:
            lines += ["", *further]
    if plan.redone:
        lines += ["", describe(plan.redone)]
        if is_too_much(plan.redone, plan.limits):
            lines.append(how_to_go_on(plan.redone))
    return "\n".join(lines)


def _rows(steps: Sequence[Step]) -> list[list[Step]]:
    """A row for each rule and cause; then one for small rules' steps that the same made stale."""
    small = _small_rules(steps)
    groups: dict[tuple[str, str, bool], list[Step]] = {}
    for step in steps:
        rule = "" if step.rule in small else step.rule
        groups.setdefault((rule, own_cause(step.why), step.cost.source == "kept"), []).append(step)
    return sorted(groups.values(), key=lambda row: len({step.rule for step in row}) > 1)


def _small_rules(steps: Sequence[Step]) -> set[str]:
    """The rules whose jobs together cost next to nothing, beside all that would run."""
    whole = total(step.cost for step in steps)
    costs = {rule: total(s.cost for s in steps if s.rule == rule) for rule in {s.rule for s in steps}}
    hours = max(SMALL_HOURS, SMALL_SHARE * whole.hours)
    gpu = SMALL_SHARE * whole.gpu_hours
    return {rule for rule, cost in costs.items() if cost.hours <= hours and cost.gpu_hours <= gpu}


def own_cause(why: str) -> str:
    """What made a step stale beside the steps before it, which differ from rule to rule."""
    return re.sub(r"(^|; )follows .*", "", why) or FOLLOW


def _row(row: Sequence[Step], detailed: bool) -> str:
    cost = _say(total(step.cost for step in row))
    if len({step.rule for step in row}) > 1:
        return _line("small ones", row, cost, f"{own_cause(row[0].why)}: {_names(row)}")
    whys, cause = {step.why for step in row}, own_cause(row[0].why)
    if cause == FOLLOW and len(whys) > 1:
        cause = "follows what runs before it"
    elif detailed or cause == FOLLOW:
        (cause,) = whys
    return _line(row[0].rule, row, cost, cause)


def _line(name: str, steps: Iterable[Step], cost: str, why: str = "") -> str:
    return f"{name:<18} {sum(len(step.jobs) for step in steps):>6,}  {cost:<32} {why}".rstrip()


def _names(steps: Iterable[Step]) -> str:
    """The rules of some steps: figures and tables counted, the others by name."""
    rules = list(dict.fromkeys(step.rule for step in steps))
    plates = [rule for rule in rules if rule.startswith(("figure_", "table_"))]
    if len(plates) > 1:
        rules = [f"{len(plates)} figures and tables", *(rule for rule in rules if rule not in plates)]
    return ", ".join(rules)


def _say(cost: Cost) -> str:
    if cost.source == "kept":
        return "kept: seconds"
    mark = {"measured": "", "study": " (stated)", "guess": " (guessed)"}[cost.source]
    return f"{_amount(cost)}{mark}"


def _say_sum(steps: Sequence[Step]) -> str:
    """The sum over all jobs, which is no wall time, and how much of it is no measurement."""
    whole = total(step.cost for step in steps)
    if whole.source == "kept":
        return _say(whole)
    marks = [
        f"{max(1, round(100 * part / whole.hours))} % {word}"
        for source, word in (("study", "stated"), ("guess", "guessed"))
        if (part := sum(step.cost.hours for step in steps if step.cost.source == source))
    ]
    return f"{_amount(whole)} of jobs, one after the other" + (f" ({', '.join(marks)})" if marks else "")


def _amount(cost: Cost) -> str:
    gpu = f"{_figure(cost.gpu_hours)} GPU-h, " if cost.gpu_hours >= 0.001 else ""
    return gpu + span(cost.hours)


def span(hours: float) -> str:
    """A time as people say it."""
    seconds = hours * 3600
    if seconds < 1:
        return "under 1 s"
    if seconds < 99.5:  # what would be rounded to 100 is said in minutes
        return f"{seconds:.2g} s"
    return f"{_figure(hours)} h" if hours >= 1 else f"{hours * 60:.2g} min"


def _figure(value: float) -> str:
    """Three figures that count, large numbers whole."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _as_json(plan: RunPlan) -> list[dict[str, Any]]:
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
