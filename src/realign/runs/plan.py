"""`realign plan`: what a run would do, why, and what it would cost, before it does anything."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.artifacts.fingerprint import reachable
from realign.artifacts.provenance import read_provenance
from realign.commands import STAGES, load_command
from realign.runs.cost import Cost, cost_of, measured_hours, total
from realign.runs.dag import PlannedJob, planned_jobs
from realign.runs.flow import changes_of, choose_study
from realign.study.load import load_study

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Step:
    """The jobs of one rule that would run for the same reason."""

    rule: str
    why: str
    jobs: tuple[PlannedJob, ...]
    cost: Cost


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
    steps = make_plan(snakefile, arguments.configfile, _pairs(arguments.config), arguments.targets)
    print(json.dumps(_as_json(steps), indent=1) if arguments.json else render(steps, arguments.jobs))
    return 0


def _pairs(words: Sequence[str]) -> dict[str, Any]:
    wrong = [w for w in words if "=" not in w]
    if wrong:
        raise UserError(f"--config takes KEY=VALUE, not {wrong[0]!r}")
    return dict(word.split("=", 1) for word in words)


def find_snakefile() -> Path:
    """The workflow's entry: in the working directory, else where the package was installed from."""
    for folder in (Path.cwd(), ROOT):
        if (folder / "Snakefile").is_file():
            return folder / "Snakefile"
    raise UserError("no Snakefile here; run from the project's folder or name it with --snakefile")


def make_plan(
    snakefile: Path,
    configfile: Path | None = None,
    config: Mapping[str, Any] | None = None,
    targets: Sequence[str] = (),
) -> list[Step]:
    """The steps of a run, in the order that the data flows."""
    config = config or {}
    study_file = choose_study(snakefile.parent / "config.yaml", [configfile] if configfile else [])
    study = load_study(study_file, changes_of(config))
    jobs = planned_jobs(snakefile, Path.cwd(), configfile, config, targets)
    measured = measured_hours(Path("results") / study.study.name / ".work")
    groups: dict[tuple[str, str], list[PlannedJob]] = {}
    for job in jobs:
        groups.setdefault((job.rule, explain(job)), []).append(job)
    return [
        Step(rule, why, tuple(members), total(cost_of(j, measured, study.resources) for j in members))
        for (rule, why), members in sorted(groups.items(), key=_flow_order)
    ]


def _flow_order(group: tuple[tuple[str, str], list[PlannedJob]]) -> tuple[int, str, str]:
    """Where a rule stands in the flow of data: the table of commands is in that order."""
    (rule, why), _ = group
    return (list(STAGES).index(rule) if rule in STAGES else len(STAGES), rule, why)


def explain(job: PlannedJob) -> str:
    """Why a job would run, in words: which setting, which module, which input."""
    if job.follows:
        return "follows what runs before it"
    whys: list[str] = []
    if "params have changed since last execution" in job.reasons:
        whys.extend(_changed_parameter(job))
    words = {
        "output files have to be generated": "not made yet",
        "updated input files": "an input changed",
        "input files updated by another job": "follows what runs before it",
        "set of input files has changed since last execution": "it has other inputs than before",
        "incomplete output files": "an earlier run was interrupted in it",
        "forced": "asked for",
    }
    whys += [words[r] for r in job.reasons if r in words]
    return "; ".join(dict.fromkeys(whys)) or "; ".join(job.reasons)


def _changed_parameter(job: PlannedJob) -> Iterator[str]:
    if not job.before or not job.now:
        yield "its parameters changed"
        return
    settings = list(_differences(job.before["settings"], job.now["settings"]))
    if settings:
        yield "settings: " + ", ".join(settings)
    if job.before.get("code") != job.now.get("code"):
        modules = _changed_modules(job)
        yield "code: " + (", ".join(modules) if modules else "changed since its last run")


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif before != now:
        yield f"{path} {json.dumps(before)} → {json.dumps(now)}"


def _changed_modules(job: PlannedJob) -> list[str]:
    """The modules whose code differs from what made the job's output, by its provenance."""
    records = (read_provenance(Path(output)) for output in job.outputs)
    record = next((r for r in records if r), None)
    if record is None:
        return []
    now = reachable(load_command(record["command"]).run.split(":")[0])
    then = record["modules"]
    return sorted(m for m in {*then, *now} if then.get(m) != now.get(m))


def render(steps: Sequence[Step], each_job: bool = False) -> str:
    """The plan as a person reads it."""
    if not steps:
        return "Nothing to be done."
    lines = []
    for step in steps:
        lines.append(f"{step.rule:<18} {len(step.jobs):>6,}  {_hours(step.cost):<32} {step.why}")
        if each_job:
            lines += [f"    {job.name}" for job in step.jobs]
    whole = total(step.cost for step in steps)
    count = sum(len(step.jobs) for step in steps)
    head = f"{'rule':<18} {'jobs':>6}  {'cost':<32} why"
    return "\n".join([head, *lines, f"{'all':<18} {count:>6,}  {_hours(whole)}"])


def _hours(cost: Cost) -> str:
    mark = {"measured": "", "study": " (stated)", "guess": " (guessed)"}[cost.source]
    gpu = f"{_figure(cost.gpu_hours)} GPU-h, " if cost.gpu_hours else ""
    wall = f"{_figure(cost.hours)} h" if cost.hours >= 1 else f"{cost.hours * 60:.2g} min"
    return f"{gpu}{wall}{mark}"


def _figure(value: float) -> str:
    """Three figures that count, large numbers whole."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _as_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [
        {
            "rule": step.rule,
            "why": step.why,
            "jobs": [job.name for job in step.jobs],
            "hours": step.cost.hours,
            "gpu_hours": step.cost.gpu_hours,
            "source": step.cost.source,
        }
        for step in steps
    ]
