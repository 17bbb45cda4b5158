"""What a SLURM site allows a user's jobs, and which jobs would therefore wait for ever.

Many sites accept a job above their limits and never start it. So a run reads the limits when it starts and
looks at each job before it submits it. Where a limit can't be read, SLURM has the last word.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from realign.runs.flow import RESUMING
from realign.runs.queue import PATIENCE, user_here


@dataclass(frozen=True)
class Partition:
    """A partition's limits; nothing where there is none."""

    minutes: int | None = None
    nodes: int | None = None
    is_default: bool = False
    state: str = "UP"


@dataclass(frozen=True)
class Limits:
    """A site's limits on one user's jobs, as far as they can be read."""

    partitions: Mapping[str, Partition] = field(default_factory=dict)
    accounts: Mapping[str, int | None] = field(default_factory=dict)  # a user's, with the longest limit
    default_account: str = ""
    qos: Mapping[str, int | None] = field(default_factory=dict)  # with the longest limit
    jobs: int | None = None  # in the queue at a time

    @classmethod
    def of_this_site(cls) -> "Limits":
        """Ask SLURM and its accounting."""
        shown = _ask("scontrol", "show", "partition", "--oneliner")
        if not shown:
            return cls()
        partitions = {}
        for line in shown:
            facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
            nodes = facts.get("MaxNodes", "")
            partitions[facts["PartitionName"]] = Partition(
                minutes_of(facts.get("MaxTime", "")),
                int(nodes) if nodes.isdigit() else None,
                facts.get("Default") == "YES",
                facts.get("State", "UP"),
            )
        plain = ("sacctmgr", "--noheader", "--parsable2", "show")
        columns = "format=DefaultAccount,Account,Partition,MaxWall,MaxSubmit"
        rows = [line.split("|") for line in _ask(*plain, "user", user_here(), "withassoc", columns)]
        own = [row for row in rows if len(row) == 5 and not row[2]]  # those of one partition alone are rare
        qos = (line.split("|") for line in _ask(*plain, "qos", "format=Name,MaxWall"))
        counts = [int(row[4]) for row in own if row[4].isdigit()]
        return cls(
            partitions,
            {row[1]: minutes_of(row[3]) for row in own},
            own[0][0] if own else "",
            {name: minutes_of(wall) for name, wall in qos},
            max(counts, default=None),
        )

    def partition_of(self, job: Any) -> str:
        """The partition that a job asks for, or the site's default; a list of them as it is."""
        default = next((name for name, partition in self.partitions.items() if partition.is_default), "")
        return str(job.resources.get("slurm_partition") or default)

    def longest(self, job: Any) -> int | None:
        """The longest limit that a job may have, in minutes."""
        partitions = [self.partitions.get(n, Partition()) for n in self.partition_of(job).split(",")]
        walls = [
            None if any(p.minutes is None for p in partitions) else max(p.minutes or 0 for p in partitions),
            self.accounts.get(str(job.resources.get("slurm_account") or self.default_account)),
            self.qos.get(str(job.resources.get("qos") or "")),
        ]
        return min((wall for wall in walls if wall is not None), default=None)

    def why_never(self, job: Any) -> str:
        """Why SLURM would never start a job, and what to change; empty where nothing speaks against it."""
        names = self.partition_of(job).split(",")
        if self.partitions and (unknown := [name for name in names if name not in self.partitions]):
            return f"no partition '{unknown[0]}' ({', '.join(self.partitions)}): change its partition"
        account = str(job.resources.get("slurm_account") or "")
        if account and self.accounts and account not in self.accounts:
            return f"no account '{account}' of yours ({', '.join(self.accounts)}): change its account"
        minutes, most = int(job.resources.get("runtime") or 0), self.longest(job)
        if most is not None and minutes > most:
            hours = f"{minutes / 60:g} hours are more than the {most / 60:g}"
            return f"{hours} that {self._whose(job, most)} allows: change hours or partition"
        nodes = int(job.resources.get("nodes") or 1)
        counts = [self.partitions[name].nodes for name in names if name in self.partitions]
        if counts and all(count is not None and nodes > count for count in counts):
            most_nodes = max(count or 0 for count in counts)
            return f"{nodes} nodes are more than the {most_nodes} of partition '{names[0]}': change nodes"
        return ""

    def _whose(self, job: Any, most: int) -> str:
        account = str(job.resources.get("slurm_account") or self.default_account)
        qos = str(job.resources.get("qos") or "")
        if self.accounts.get(account) == most:
            return f"account '{account}'"
        return f"QOS '{qos}'" if self.qos.get(qos) == most else f"partition '{self.partition_of(job)}'"


def check_start(limits: Limits, workflow: Any) -> list[str]:
    """Stop a run with jobs that would never start; what else its user should know of the site, in lines."""
    jobs = [job for job in workflow.dag.needrun_jobs() if not (job.is_local or job.rule.norun)]
    wrong = {job.rule.name: why for job in jobs if (why := limits.why_never(job))}
    if wrong:
        from snakemake.exceptions import WorkflowError  # which Snakemake shows without a traceback

        lines = [f"  resources.rules.{rule}: {why}" for rule, why in sorted(wrong.items())]
        raise WorkflowError("\n".join(["These jobs would never start on this cluster:", *lines]))
    asked = sorted({name for job in jobs for name in limits.partition_of(job).split(",")})
    closed = {n: p.state for n in asked if (p := limits.partitions.get(n)) and p.state != "UP"}
    lines = [f"Partition '{name}' is {state.lower()}: its jobs wait." for name, state in closed.items()]
    if limits.jobs is not None and limits.jobs < len(jobs):
        lines.append(
            f"You may have {limits.jobs} jobs in the queue at a time (MaxSubmitJobs): others wait here until "
            "there is room."
        )
    return [*lines, *_late_warnings(jobs)]


def _late_warnings(jobs: Iterable[Any]) -> list[str]:
    """The rules whose jobs would save nothing before their limit, since no warning reaches them in time."""
    found: dict[str, str] = {}
    for job in jobs:
        if job.rule.name not in RESUMING:
            continue
        seconds = re.findall(r"--signal=\S*@(\d+)", str(job.resources.get("slurm_extra") or ""))
        limit = 60 * int(job.resources.get("runtime") or 0)
        if not seconds:
            found[job.rule.name] = "is not warned before its time limit: slurm_extra lacks --signal=USR1@300"
        elif limit <= int(seconds[-1]) + 60:
            found[job.rule.name] = (
                f"is warned {seconds[-1]} s before a limit of {limit} s, when it has hardly begun: give it "
                f"more hours, or a smaller resources.rules.{job.rule.name}.warning_seconds"
            )
    return [f"{rule} {what}." for rule, what in sorted(found.items())]


def minutes_of(limit: str) -> int | None:
    """A time limit as SLURM writes it, `days-hours:minutes:seconds`; nothing where there is none."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if not found:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + minutes


def _ask(*words: str) -> Sequence[str]:
    """The lines that a command of SLURM answers with; none where it has no answer."""
    if shutil.which(words[0]) is None:
        return []
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in said.stdout.splitlines() if line]
