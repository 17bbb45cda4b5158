"""Snakemake's SLURM executor, put right where a shared cluster would end a run that could go on.

A run changes the executor that it has when it starts, in four places:

- *Submitting.* A submission that SLURM refuses for now (too many jobs of a user, a controller that is away)
  waits and is made again, and costs the job no attempt. One that it refuses for good fails at once, and the
  message names the setting.
- *States.* The executor takes a preempted job for one that SLURM will run again. We forbid that, because it
  would write outputs behind the workflow's back, so such a job has ended. A cancelled job's state names who
  cancelled it, and the executor does not know it for one either.
- *Time limits.* A job that met its limit records that beside its log, and gets a longer one where it can't
  go on from what it saved (see `Flow.limits`).
- *Questions.* The pause between two questions for the jobs' states grows to half a minute and no longer.
"""

import asyncio
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from realign.runs.attempts import no_more_attempts, record_time_limit
from realign.runs.queue import PATIENCE

Query = Callable[..., Awaitable[tuple[dict[str, str] | None, float | None]]]

# What SLURM says when the same submission may be taken later; all else is refused for good.
FOR_NOW = re.compile(
    r"(Assoc|QOS)\w*SubmitJob|Unable to contact|[Tt]imed out|temporarily|Zero Bytes were transmitted"
    r"|Connection (refused|reset)|Transport endpoint|inactive or drain|authentication (error|plugin)|Munge"
)
# What it says when it refuses a job for good → the setting. `{}` is the job's rule.
SETTINGS = (
    (r"[Ii]nvalid partition", "resources.rules.{}.partition, or the profile's slurm_partition"),
    (r"[Ii]nvalid account|given account", "resources.rules.{}.account, or the profile's slurm_account"),
    (r"[Ii]nvalid qos|QOS", "resources.rules.{}.qos"),
    (r"time limit is invalid|WallDuration|MaxWall", "resources.rules.{}.hours"),
    (r"[Ii]nvalid generic resource|gres", "resources.rules.{0}.gpus or gpu_model"),
    (r"Memory specification", "resources.rules.{}.memory_gb"),
    (r"[Ii]nvalid feature", "resources.rules.{}.constraint"),
    (r"[Rr]eservation", "resources.rules.{}.reservation"),
    (r"node configuration|CPU count|Node count", "threads, memory_gb, gpus or nodes in resources.rules.{}"),
)  # fmt: skip
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0  # seconds between two submissions of one job
LONGEST_SILENCE = 30.0  # seconds between two questions for the states of a run's jobs
# How the executor begins when sbatch refused a submission, and when its own checks before did.
REFUSED = ("SLURM sbatch failed", "Job submission failed with exception: ")


def put_right(workflow: Any) -> None:
    """Change the SLURM executor of a run that starts, where it has one."""
    plugin: Any = sys.modules.get("snakemake_executor_plugin_slurm")
    executor = getattr(workflow.scheduler, "_executor", None)
    if plugin is None or not isinstance(executor, plugin.Executor):
        return
    plugin.query_job_status = telling_the_ended(plugin.query_job_status)
    Submissions(executor)
    executor.report_job_error = noting_time_limits(executor.report_job_error)
    executor.sleep = lambda: asyncio.sleep(min(executor.next_seconds_between_status_checks, LONGEST_SILENCE))


def refuse_what_would_never_start(workflow: Any) -> None:
    """Stop a run with jobs whose limit is above their partition's: many sites let them wait for ever."""
    limits = partitions()
    if workflow.local_exec or not limits:
        return
    default = next((name for name, (_, is_default) in limits.items() if is_default), "")
    wrong: dict[str, str] = {}
    for job in workflow.dag.needrun_jobs():
        partition = job.resources.get("slurm_partition") or default
        for name in () if job.is_local or job.rule.norun else partition.split(","):
            minutes = job.resources.get("runtime") or 0
            if name not in limits:
                wrong[job.rule.name] = f"no partition '{name}' ({', '.join(limits)}): change its partition"
            elif (most := limits[name][0]) is not None and minutes > most:
                hours = f"{minutes / 60:g} hours are more than the {most / 60:g} of partition '{name}'"
                wrong[job.rule.name] = f"{hours}: change hours or partition"
    if wrong:
        from snakemake.exceptions import WorkflowError  # which Snakemake shows without a traceback

        lines = [f"  resources.rules.{rule}: {why}" for rule, why in sorted(wrong.items())]
        raise WorkflowError("\n".join(["These jobs would never start on this cluster:", *lines]))


def partitions() -> dict[str, tuple[int | None, bool]]:
    """Each partition's longest limit in minutes, and whether it is the default; empty without an answer."""
    if shutil.which("scontrol") is None:
        return {}
    words = ["scontrol", "show", "partition", "--oneliner"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return {}  # the check is a courtesy: SLURM itself has the last word
    found = {}
    for line in said.stdout.splitlines():
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if name := facts.get("PartitionName"):
            found[name] = (minutes_of(facts.get("MaxTime", "")), facts.get("Default") == "YES")
    return found


def minutes_of(limit: str) -> int | None:
    """A time limit as SLURM writes it, `days-hours:minutes:seconds`; nothing where there is none."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if not found:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + minutes


class Submissions:
    """The executor's submissions, which wait where SLURM has no room for them."""

    def __init__(self, executor: Any):
        self._executor = executor
        self._submit, self._report = executor.run_job, executor._report_job_error_threadsafe
        self._refused = threading.local()  # the executor submits from several threads
        self._said: set[str] = set()  # each reason to wait is said once
        executor.run_job = self.run_job
        executor._report_job_error_threadsafe = self.report

    def run_job(self, job: Any) -> None:
        """Submit a job, as often as SLURM refuses it for now."""
        from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

        pause = FIRST_PAUSE
        while True:
            self._refused.why = ""
            try:
                self._submit(job)
            except Exception as error:  # noqa: BLE001 (whatever it is, the job would be waited for without end)
                # The executor names the rule of a job that it couldn't submit, and a group of jobs has none.
                self.report(SubmittedJobInfo(job), f"{REFUSED[1]}{error.__context__ or error}")
            if not self._refused.why:
                return
            self._say_once(self._refused.why)
            if not self._wait(pause):
                return
            pause = min(1.5 * pause, LONGEST_PAUSE)

    def report(self, info: Any, msg: str) -> None:
        """Report an error of the executor, unless it is a refusal that time mends."""
        if not msg.startswith(REFUSED):
            self._report(info, msg)
            return
        why = refusal(msg)
        if FOR_NOW.search(why):
            self._refused.why = why
        else:
            no_more_attempts(info.job)
            self._report(info, f"SLURM refuses this job: {why}{_setting(why, info.job)}. ")

    def _say_once(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self._executor.logger.warning(
                f"SLURM takes no more jobs for now ({why}). Submissions wait and are made again; "
                "no attempt is spent."
            )

    def _wait(self, seconds: float) -> bool:
        """Wait, and say whether the run goes on."""
        end = time.monotonic() + seconds
        while self._executor.wait and (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
        return bool(self._executor.wait)


def refusal(message: str) -> str:
    """SLURM's own words in what the executor says of a refused submission, without the submission itself."""
    said = re.search(r"error message was '(.*?)'\.\n", message, re.DOTALL)
    lines = (said[1] if said else message.removeprefix(REFUSED[1])).splitlines()
    return "; ".join(dict.fromkeys(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines))


def _setting(why: str, job: Any) -> str:
    found = next((setting for pattern, setting in SETTINGS if re.search(pattern, why)), "")
    return f" (change {found.format(job.name)})" if found else ""


def noting_time_limits(report: Callable[..., None]) -> Callable[..., None]:
    """The executor's report of a failed job, before which a met time limit is recorded."""

    def report_job_error(info: Any, msg: str | None = None, **others: Any) -> None:
        if msg and "'TIMEOUT'" in msg and not info.job.is_group():
            for path in info.job.log:
                record_time_limit(Path(path), int(info.job.resources.get("runtime") or 0))
        report(info, msg=msg, **others)

    return report_job_error


def telling_the_ended(query: Query) -> Query:
    """The executor's question to the cluster, its answers put right."""

    async def query_job_status(*words: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await query(*words)
        return states and {job: as_ended(state) for job, state in states.items()}, seconds

    return query_job_status


def as_ended(state: str) -> str:
    """A state by a name that the executor knows for a failure."""
    word = state.split()[0] if state.split() else state
    return "CANCELLED" if word == "PREEMPTED" else word
