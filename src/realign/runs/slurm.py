"""Snakemake's SLURM executor, put right where a shared cluster would end a run that could go on.

A run changes the executor that it has when it starts, in six places:

- *Submitting.* A submission that SLURM refuses for now (too many jobs of a user, a controller that is away)
  waits and is made again, and costs the job no attempt. One that it refuses for good, or would let wait for
  ever, fails at once, and the message names the setting.
- *Failed nodes.* The executor excludes the nodes of a job that lost one, for the rest of the run. SLURM uses
  no node that is down, and refuses a job for good when too few others are left. So only those are excluded
  that the user names.
- *Ending.* At Ctrl-C the executor cancels what it has submitted, and goes on submitting what it has not.
- *States.* The executor takes a preempted job for one that SLURM will run again. We forbid that, because it
  would write outputs behind the workflow's back, so such a job has ended. A cancelled job's state names who
  cancelled it, and the executor does not know it for one either.
- *Time limits.* A job that met its limit records that beside its log, and gets a longer one where it can't
  go on from what it saved (see `Flow.limits`).
- *Questions.* The pause between two questions for the jobs' states follows how long the jobs have run.
"""

import asyncio
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from realign.artifacts.errors import KEPT
from realign.runs.attempts import no_more_attempts, record_error, record_time_limit
from realign.runs.flow import RESUMING
from realign.runs.limits import Limits, check_start
from realign.runs.queue import PATIENCE, user_here

Query = Callable[..., Awaitable[tuple[dict[str, str] | None, float | None]]]

# What SLURM says when the same submission may be taken later; all else is refused for good.
FOR_NOW = re.compile(
    r"(Assoc|QOS)\w*SubmitJob|Unable to contact|[Tt]imed out|temporarily|Zero Bytes were transmitted"
    r"|Connection (refused|reset)|Transport endpoint|inactive or drain|authentication (error|plugin)|Munge"
    r"|^(Batch job submission failed: )?Job violates accounting/QOS policy"  # where no limit is named before
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
SHORTEST_SILENCE, LONGEST_SILENCE = 5.0, 30.0  # seconds between two questions for the states of a run's jobs
LATE = 0.25  # of the time that a job has been running, by which its end may be noticed late
# What the executor goes on to say of a lost node, and does not hold here: that it is excluded, and advice.
OF_FAILED_NODES = " Failed nodes will be excluded"
# How the executor begins when sbatch refused a submission, and when its own checks before did.
REFUSED = ("SLURM sbatch failed", "Job submission failed with exception: ")


def put_right(workflow: Any) -> None:
    """Look at what the site allows and change the SLURM executor of a run that starts, where it has one."""
    plugin: Any = sys.modules.get("snakemake_executor_plugin_slurm")
    executor = getattr(workflow.scheduler, "_executor", None)
    if plugin is None or not isinstance(executor, plugin.Executor):
        return
    limits = Limits.of_this_site()
    for line in check_start(limits, workflow):
        executor.logger.warning(line)
    submissions = Submissions(executor, limits, lambda: bool(workflow.scheduler._user_kill))
    plugin.query_job_status = telling_the_ended(plugin.query_job_status, submissions.see)
    executor.report_job_error = noting_time_limits(executor.report_job_error, limits)
    executor.sleep = lambda: asyncio.sleep(submissions.silence())


class Submissions:
    """The executor's submissions, which wait where SLURM has no room for them."""

    def __init__(self, executor: Any, limits: Limits, ends: Callable[[], bool]):
        self._executor, self._limits, self._ends = executor, limits, ends
        self._submit, self._report = executor.run_job, executor._report_job_error_threadsafe
        self._cancel = executor.cancel
        self._refused = threading.local()  # the executor submits from several threads
        self._said: set[str] = set()  # each reason to wait is said once
        self._since: dict[Any, float] = {}  # when each job was submitted
        self._began: dict[str, float] = {}  # when each job, by its number, was first seen to run
        self._cancelled = False
        self._excluded = frozenset(executor._failed_nodes)  # by the user's word
        executor.run_job = self.run_job
        executor._report_job_error_threadsafe = self.report
        executor.cancel = self.cancel

    def run_job(self, job: Any) -> None:
        """Submit a job, as often as SLURM refuses it for now."""
        from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

        pause = FIRST_PAUSE
        while self._goes_on():
            if why := self._limits.why_never(job):  # a retry asks for more than was looked at before
                self._refuse(SubmittedJobInfo(job), f"this job would never start: {why}")
                return
            self._refused.why = ""
            self._executor._failed_nodes = set(self._excluded)
            try:
                self._submit(job)
            except Exception as error:  # noqa: BLE001 (whatever it is, the job would be waited for without end)
                # The executor names the rule of a job that it couldn't submit, and a group of jobs has none.
                self.report(SubmittedJobInfo(job), f"{REFUSED[1]}{error.__context__ or error}")
            if not self._refused.why:
                self._since[job] = time.monotonic()
                return
            self._say_once(self._refused.why)
            self._wait(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE)
        if not self._cancelled:  # else nobody listens any more
            self._refuse(SubmittedJobInfo(job), f"not submitted, since the run ends; {KEPT}")

    def silence(self) -> float:
        """Seconds until the states of jobs are worth another question: longer for jobs that last longer.

        How long a job waited in the queue says nothing of how long it lasts; it counts where no job runs.
        """
        with self._executor.lock:
            active = list(self._executor.active_jobs)
        now = time.monotonic()
        self._since = {info.job: self._since[info.job] for info in active if info.job in self._since}
        numbers = {info.external_jobid for info in active}
        self._began = {number: began for number, began in self._began.items() if number in numbers}
        ages = [now - moment for moment in (self._began or self._since).values()]
        usual = LATE * statistics.median(ages) if ages else 0.0
        return min(max(SHORTEST_SILENCE, usual), LONGEST_SILENCE)

    def see(self, states: Mapping[str, str]) -> None:
        """Note which jobs run by now."""
        now = time.monotonic()
        for number, state in states.items():
            if state == "RUNNING":
                self._began.setdefault(number, now)

    def cancel(self) -> None:
        """End a run at its user's word: submit nothing more, and cancel all of it that is in the queue."""
        self._cancelled = True
        self._executor._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        self._cancel()
        words = ["scancel", f"--name={self._executor.run_uuid}", f"--user={user_here()}"]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE)
        except (OSError, subprocess.SubprocessError) as error:
            self._executor.logger.warning(f"Jobs may be left in the queue ({error}). Run: {' '.join(words)}")

    def _goes_on(self) -> bool:
        return self._executor.wait and not self._cancelled and not self._ends()

    def _refuse(self, info: Any, why: str) -> None:
        no_more_attempts(info.job)
        self._report(info, f"{why}. ")

    def report(self, info: Any, msg: str) -> None:
        """Report an error of the executor, unless it is a refusal that time mends."""
        if not msg.startswith(REFUSED):
            self._report(info, msg)
            return
        why = refusal(msg)
        if FOR_NOW.search(why):
            self._refused.why = why
        else:
            self._refuse(info, f"SLURM refuses this job: {why}{_setting(why, info.job)}")

    def _say_once(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self._executor.logger.warning(
                f"SLURM takes no more jobs for now ({why}). Submissions wait and are made again; "
                "no attempt is spent."
            )

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._goes_on() and (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))


def refusal(message: str) -> str:
    """SLURM's own words in what the executor says of a refused submission, without the submission itself."""
    said = re.search(r"error message was '(.*?)'\.\n", message, re.DOTALL)
    lines = (said[1] if said else message.removeprefix(REFUSED[1])).splitlines()
    return "; ".join(dict.fromkeys(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines))


def _setting(why: str, job: Any) -> str:
    found = next((setting for pattern, setting in SETTINGS if re.search(pattern, why)), "")
    return f" (change {found.format(job.name)})" if found else ""


def noting_time_limits(report: Callable[..., None], limits: Limits) -> Callable[..., None]:
    """The executor's report of a failed job, before which a met time limit is recorded."""

    def report_job_error(info: Any, msg: str | None = None, **others: Any) -> None:
        msg = msg and msg.split(OF_FAILED_NODES)[0]
        if msg and "'TIMEOUT'" in msg and not info.job.is_group():
            minutes, most = int(info.job.resources.get("runtime") or 0), limits.longest(info.job)
            for log in map(Path, info.job.log):
                # which may be more than `most`: not every limit can be read
                record_time_limit(log, max(minutes, min(2 * minutes, most or 2 * minutes)))
                if most is not None and minutes >= most and info.job.rule.name not in RESUMING:
                    msg += " It had the longest limit that this site allows it."
                    record_error(log, msg)
        report(info, msg=msg, **others)

    return report_job_error


def telling_the_ended(query: Query, see: Callable[[Mapping[str, str]], None]) -> Query:
    """The executor's question to the cluster, its answers put right; `see` looks at them as they came."""

    async def query_job_status(*words: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await query(*words)
        see(states or {})
        return states and {job: as_ended(state) for job, state in states.items()}, seconds

    return query_job_status


def as_ended(state: str) -> str:
    """A state by a name that the executor knows for a failure."""
    word = state.split()[0] if state.split() else state
    return "CANCELLED" if word == "PREEMPTED" else word
