"""What a site allows: read from SLURM's own answers, and held against jobs before they are submitted."""

from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError

from realign.runs.limits import Limits, Partition, Qos, check_start

PARTITIONS = """PartitionName=cpu AllowGroups=ALL Default=YES MaxNodes=2 MaxTime=04:00:00 State=UP
PartitionName=long AllowGroups=ALL Default=NO MaxNodes=UNLIMITED MaxTime=7-00:00:00 State=UP
PartitionName=free AllowGroups=ALL Default=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED State=DOWN
"""
ACCOUNTS = """elsewhere|theirs|theirs||01:00:00|1
here|mine|mine||2-00:00:00|6
here|mine|other|||
here|mine|mine|cpu|00:10:00|1
here|mine|bound|long|00:10:00|1
"""
QOS = """normal||
short|01:00:00|DenyOnLimit
week|7-00:00:00|DenyOnLimit,PartitionTimeLimit
"""
SIGNAL = "--signal=USR1@300"


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Lets SLURM's commands answer with these words."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def answer(**said):
        for name, shell in said.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{shell}\n")
            (tmp_path / name).chmod(0o755)

    answer(
        scontrol=f"case $2 in config) echo 'ClusterName  = here';; *) cat <<'END'\n{PARTITIONS}END\n;; esac",
        sacctmgr=f"case \"$*\" in *qos*) cat <<'END'\n{QOS}END\n;; *) cat <<'END'\n{ACCOUNTS}END\n;; esac",
    )
    return answer


@pytest.fixture
def limits(answers):
    return Limits.of_this_site()


def job(rule="train", **resources):
    resources = {"runtime": 60, "slurm_extra": SIGNAL} | resources
    return SimpleNamespace(is_local=False, rule=SimpleNamespace(name=rule, norun=False), resources=resources)


def workflow(*jobs):
    return SimpleNamespace(dag=SimpleNamespace(needrun_jobs=lambda: jobs))


def test_limits_are_read_from_partitions_and_accounting(limits):
    assert limits.partitions == {
        "cpu": Partition(240, 2, is_default=True),
        "long": Partition(10080),
        "free": Partition(state="DOWN"),
    }
    assert limits.accounts == {"mine": 2880, "other": None, "bound": None}
    assert (limits.default_account, limits.jobs) == ("mine", 6)
    assert {name: qos.minutes for name, qos in limits.qos.items()} == {
        "normal": None,
        "short": 60,
        "week": 10080,
    }
    assert limits.qos["week"] == Qos(10080, frozenset({"DenyOnLimit", "PartitionTimeLimit"}))


def test_without_accounting_the_partitions_are_known_and_without_slurm_nothing_is(answers, monkeypatch):
    answers(sacctmgr="echo 'You are not running a supported accounting_storage plugin' >&2; exit 1")
    assert Limits.of_this_site().partitions["cpu"].minutes == 240
    answers(scontrol="echo 'Unable to contact slurm controller' >&2; exit 1")
    assert Limits.of_this_site() == Limits()
    monkeypatch.setenv("PATH", "")
    assert Limits.of_this_site() == Limits()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"runtime": 240}, ""),
        ({"runtime": 720}, "12 hours are more than the 4 that partition 'cpu' allows: change hours"),
        ({"runtime": 720, "slurm_partition": "cpu,long"}, ""),
        ({"slurm_partition": "gpuu"}, "no partition 'gpuu' (cpu, long, free)"),
        ({"slurm_account": "nobody"}, "no account 'nobody' of yours (mine, other, bound)"),
        ({"slurm_account": "theirs"}, "no account 'theirs' of yours"),
        ({"slurm_account": "Mine, other\tbound"}, ""),
        ({"runtime": 720, "qos": "week"}, ""),
        ({"runtime": 2881, "slurm_partition": "long"}, ""),
        ({"nodes": 4}, "4 nodes are more than the 2 of partition 'cpu'"),
        ({"nodes": 4, "slurm_partition": "long"}, ""),
    ],
)
def test_a_job_that_would_never_start_is_known_before(limits, asked, why):
    said = limits.why_never(job(**asked))
    assert said.startswith(why)
    assert bool(said) == bool(why)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"runtime": 2881}, "48.0167 hours are more than the 48 that account 'mine' allows: change hours"),
        ({"runtime": 2881, "slurm_account": "Other,mine"}, ""),
        ({"runtime": 2881, "slurm_account": "bound"}, ""),
        ({"runtime": 2881, "qos": "week"}, ""),  # its own limit, and not its account's
        ({"runtime": 10081, "qos": "week"}, "168.017 hours are more than the 168 that QOS 'week' allows"),
        ({"runtime": 120, "qos": "short"}, "2 hours are more than the 1 that QOS 'short' allows"),
        (
            {"runtime": 720, "qos": "normal", "slurm_partition": "cpu"},
            "12 hours are more than the 4 that part",
        ),
    ],
)
def test_a_time_that_another_limit_may_allow_is_warned_of(limits, asked, why):
    doubtful = job(**{"slurm_partition": "long"} | asked)
    warned = [line for line in check_start(limits, workflow(doubtful)) if line.startswith("Jobs may never")]
    assert len(warned) == bool(why)
    assert all(line.startswith(f"Jobs may never start: resources.rules.train: {why}") for line in warned)


def test_a_run_with_such_jobs_stops_at_its_start_and_names_their_rules(limits):
    fetched = job("fetch_hub", runtime=10**6)
    fetched.is_local = True  # beside Snakemake, without a limit
    assert check_start(limits, workflow(fetched, job())) == []
    with pytest.raises(WorkflowError) as stopped:
        check_start(limits, workflow(job(runtime=720), job("mine", slurm_partition="gpuu")))
    assert "resources.rules.train: 12 hours" in str(stopped.value)
    assert "resources.rules.mine: no partition 'gpuu'" in str(stopped.value)


def test_a_start_says_what_will_wait_and_what_would_be_lost(limits):
    closed, *rest = check_start(
        limits,
        workflow(
            job("hrsa_linear", slurm_partition="free", slurm_extra=""),
            job("train", slurm_extra="--exclusive"),
            job("extract", runtime=6),
            *(job() for _ in range(4)),
        ),
    )
    assert closed == "Partition 'free' is down: its jobs wait."
    assert rest[0].startswith("You may have 6 jobs in the queue at a time (MaxSubmitJobs)")
    assert "extract is warned 300 s before a limit of 360 s" in rest[1]
    assert "resources.rules.extract.warning_seconds" in rest[1]
    assert rest[2].startswith("train is not warned before its time limit: slurm_extra lacks --signal")
    assert len(rest) == 3
