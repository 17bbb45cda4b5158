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
class Qos:
    """The longest limit of a quality of service, if it has one, and its flags."""

    minutes: int | None = None
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Limits:
    """A site's limits on one user's jobs, as far as they can be read."""

    partitions: Mapping[str, Partition] = field(default_factory=dict)
    accounts: Mapping[str, int | None] = field(default_factory=dict)  # a user's, with the longest limit
    default_account: str = ""
    qos: Mapping[str, Qos] = field(default_factory=dict)
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
        columns = "format=Cluster,DefaultAccount,Account,Partition,MaxWall,MaxSubmit"
        rows = [line.split("|") for line in _ask(*plain, "user", user_here(), "withassoc", columns)]
        config = dict(
            re.split(r"\s*=\s*", line, maxsplit=1)
            for line in _ask("scontrol", "show", "config")
            if "=" in line
        )
        here = config.get("ClusterName", "").strip().lower()
        rows = [row for row in rows if len(row) == 6 and (not here or row[0].lower() == here)]
        whole = [row for row in rows if not row[3]]  # others hold for one partition
        qos = (line.split("|") for line in _ask(*plain, "qos", "format=Name,MaxWall,Flags"))
        counts = [int(row[5]) for row in whole if row[5].isdigit()]
        return cls(
            partitions,
            {row[2].lower(): None for row in rows} | {row[2].lower(): minutes_of(row[4]) for row in whole},
            rows[0][1].lower() if rows else "",
            {name.lower(): Qos(minutes_of(wall), frozenset(flags.split(","))) for name, wall, flags in qos},
            max(counts, default=None),
        )

    def partition_of(self, job: Any) -> str:
        """The partition that a job asks for, or the site's default; a list of them as it is."""
        default = next((name for name, partition in self.partitions.items() if partition.is_default), "")
        return str(job.resources.get("slurm_partition") or default)

    def longest(self, job: Any) -> int | None:
        """The longest limit that a job may have, in minutes."""
        return min(self._bounds(job), default=(None, ""))[0]

    def why_never(self, job: Any) -> str:
        """Why SLURM would surely never start a job, and what to change; empty where nothing says so."""
        names = self.partition_of(job).split(",")
        if self.partitions and (unknown := [name for name in names if name not in self.partitions]):
            return f"no partition '{unknown[0]}' ({', '.join(self.partitions)}): change its partition"
        unknown = [account for account in _accounts_of(job) if account not in self.accounts]
        if self.accounts and unknown:
            return f"no account '{unknown[0]}' of yours ({', '.join(self.accounts)}): change its account"
        if job.resources.get("qos") or "--qos" in str(job.resources.get("slurm_extra")):
            return ""  # its flags may lift the limits of a partition
        partition = f"partition '{self.partition_of(job)}'"
        if too_long := _too_long(job, self._longest_of_partitions(job), partition):
            return too_long
        nodes = int(job.resources.get("nodes") or 1)
        counts = [self.partitions[name].nodes for name in names if name in self.partitions]
        if counts and all(count is not None and nodes > count for count in counts):
            most_nodes = max(count or 0 for count in counts)
            return f"{nodes} nodes are more than the {most_nodes} of partition '{names[0]}': change nodes"
        return ""

    def why_perhaps_never(self, job: Any) -> str:
        """Which limit a job's time is above, as far as limits can be read; empty where it is within all."""
        most, whose = min(self._bounds(job), default=(None, ""))
        return _too_long(job, most, whose)

    def _bounds(self, job: Any) -> list[tuple[int, str]]:
        """The limits of a job's time, and whose they are: a QOS's own limit stands for its account's."""
        name = str(job.resources.get("qos") or "").lower()
        qos = self.qos.get(name, Qos())
        account = [*_accounts_of(job), self.default_account][0]  # to which jobs are submitted
        bounds = [(qos.minutes, f"QOS '{name}'")]
        if qos.minutes is None:
            bounds = [(self.accounts.get(account), f"account '{account}'")]
        if "PartitionTimeLimit" not in qos.flags:
            bounds.append((self._longest_of_partitions(job), f"partition '{self.partition_of(job)}'"))
        return [(minutes, whose) for minutes, whose in bounds if minutes is not None]

    def _longest_of_partitions(self, job: Any) -> int | None:
        partitions = [self.partitions.get(n, Partition()) for n in self.partition_of(job).split(",")]
        limits = [partition.minutes for partition in partitions]
        return None if None in limits else max(minutes or 0 for minutes in limits)


def _too_long(job: Any, most: int | None, whose: str) -> str:
    minutes = int(job.resources.get("runtime") or 0)
    if most is None or minutes <= most:
        return ""
    hours = f"{minutes / 60:g} hours are more than the {most / 60:g}"
    return f"{hours} that {whose} allows: change hours or partition"


def _accounts_of(job: Any) -> list[str]:
    """The accounts that a job names, as SLURM writes them."""
    named = re.split(r"[,\s]+", str(job.resources.get("slurm_account") or "").lower())
    return [account for account in named if account]


def check_start(limits: Limits, workflow: Any) -> list[str]:
    """Stop a run with jobs that would never start; what else its user should know of the site, in lines."""
    jobs = [job for job in workflow.dag.needrun_jobs() if not (job.is_local or job.rule.norun)]
    wrong = {job.rule.name: why for job in jobs if (why := limits.why_never(job))}
    if wrong:
        from snakemake.exceptions import WorkflowError  # which Snakemake shows without a traceback

        lines = [f"  resources.rules.{rule}: {why}" for rule, why in sorted(wrong.items())]
        raise WorkflowError("\n".join(["These jobs would never start on this cluster:", *lines]))
    asked = sorted({name for job in jobs for name in limits.partition_of(job).split(",")})
    perhaps = {job.rule.name: why for job in jobs if (why := limits.why_perhaps_never(job))}
    closed = {n: p.state for n in asked if (p := limits.partitions.get(n)) and p.state != "UP"}
    lines = [f"Partition '{name}' is {state.lower()}: its jobs wait." for name, state in closed.items()]
    lines += [f"Jobs may never start: resources.rules.{rule}: {why}" for rule, why in sorted(perhaps.items())]
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
