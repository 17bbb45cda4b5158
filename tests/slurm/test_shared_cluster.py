"""What a site does to a run: limits on submissions, a controller that goes away, settings that it refuses."""

import copy
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from micro_study import LOCAL, PROFILE, STUDY, TARGETS, THROUGH_SLURM, until

pytestmark = [pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(3000)]
AWAY_SECONDS = 180


def test_submissions_wait_where_the_site_has_no_room_and_fail_at_once_where_it_refuses(limited, place):
    there = place("there", copy.deepcopy(STUDY))

    # Refused for good: one attempt of each job, the setting named, and nothing of the submission itself.
    said = there.run(*THROUGH_SLURM, "--default-resources", "qos=nobody", "--", "all_train", well=False)
    assert "SLURM refuses this job" in said
    assert "is tried again" not in said
    assert "change resources.rules.import_path.qos" in said
    assert "base64" not in there.status()

    # What would never start is not even submitted.
    said = there.run(
        *THROUGH_SLURM, "--default-resources", "slurm_account=nobody", "--", "all_train", well=False
    )
    assert "resources.rules.train: no account 'nobody' of yours" in said
    study = copy.deepcopy(STUDY)
    study["resources"] = {"rules": {"train": {"partition": "gpuu"}}}
    wrong = place("wrong", study)
    said = wrong.run(*THROUGH_SLURM, "--", "all_train", well=False)
    assert "resources.rules.train: no partition 'gpuu' (cpu, gpu)" in said
    assert wrong.submitted() == 0

    # Refused for now: two jobs at a time and a controller that is away. All is made, and no attempt spent.
    limited.limit_jobs(2)
    run = there.start(*THROUGH_SLURM, "--retries", "0", "--", *TARGETS)
    until(lambda: "SLURM takes no more jobs for now" in there.said(), "a refused submission", 240)
    limited.take_away_controller()
    time.sleep(25)
    limited.bring_back_controller()
    assert run.wait(900) == 0, there.said()[-6000:]
    assert "AssocMaxSubmitJobLimit" in there.said()
    assert "Nothing to be done" in there.run(*LOCAL, "--", *TARGETS)


def test_a_study_of_many_jobs_lives_through_a_bad_day(limited, place):
    """Six jobs at a time, a cancelled one, a partition that is down, a lost node, no controller for minutes."""
    study = copy.deepcopy(STUDY)
    study["study"]["seeds"] = [0, 1, 2]
    study["evaluation"]["backbones"] = True
    study["hrsa"]["families"] = ["linear", "neighbours"]
    there, alone = place("there", study), place("alone", study)
    limited.limit_jobs(6)
    began = time.monotonic()
    run = there.start(*THROUGH_SLURM, "--jobs", "100", "--", *TARGETS)

    def running():
        assert run.poll() is None, there.said()[-6000:]
        return next(iter(limited.jobs("RUNNING")), "")

    try:
        until(lambda: "You may have 6 jobs in the queue at a time" in there.said(), "a start")
        until(lambda: "SLURM takes no more jobs for now" in there.said(), "a refused submission", 400)
        cancelled = until(running, "a job to cancel")
        limited.ask("scancel", cancelled)

        limited.ask("scontrol", "update", "partitionname=cpu", "state=down")
        until(lambda: "its partition is down" in there.status(), "a job that waits for its partition")
        limited.ask("scontrol", "update", "partitionname=cpu", "state=up")

        lost = until(running, "a job to lose", 300)
        node = limited.node_of(lost)
        limited.kill_node(node)
        until(lambda: lost not in limited.jobs("RUNNING"), "SLURM to miss the node", 180)
        limited.restart_node(node)

        until(running, "a job", 300)
        limited.take_away_controller()
        time.sleep(AWAY_SECONDS)
        limited.bring_back_controller()
        assert run.wait(1800) == 0, there.said()[-6000:]
    finally:
        run.kill()
    print(f"{there.submitted()} submissions in {time.monotonic() - began:.0f} s")
    said = there.said()
    assert said.count("AssocMaxSubmitJobLimit") == 1
    assert f"SLURM-job '{cancelled}' failed" in said
    assert "is tried again, attempt 2" in said
    assert "attempt 4" not in said
    assert "ended well" in there.status()

    alone.run(*LOCAL, "--", *TARGETS)
    words = [sys.executable, "-m", "realign.cli", "diff", "--strict", str(there.results), str(alone.results)]
    moved = subprocess.run(words, capture_output=True, text=True, cwd=alone.folder)
    assert moved.returncode == 0, moved.stdout + moved.stderr


def test_ctrl_c_leaves_nothing_in_the_queue(limited, place):
    there = place("there", copy.deepcopy(STUDY))
    limited.limit_jobs(2)
    run = there.start(*THROUGH_SLURM, "--", *TARGETS)
    until(lambda: "SLURM takes no more jobs for now" in there.said(), "a refused submission", 240)
    run.send_signal(signal.SIGINT)
    assert run.wait(120) != 0
    limited.wait_until_empty(60)
    time.sleep(10)  # time for a submission that was under way
    assert limited.jobs() == {}
    assert "was interrupted after" in there.status()


def test_snakemake_runs_as_a_job_itself_where_login_nodes_end_long_processes(cluster, place):
    there = place("there", copy.deepcopy(STUDY))
    snakemake = [
        sys.executable,
        "-m",
        "snakemake",
        "--workflow-profile",
        str(PROFILE),
        "--jobs",
        "6",
        "all_train",
    ]
    words = [
        "sbatch",
        "--parsable",
        "--mem=1000",
        "--time=30",
        "--output=run.log",
        f"--wrap={shlex.join(snakemake)}",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "REALIGN_RUN"}
    subprocess.run(words, cwd=there.folder, env=environment, check=True, capture_output=True)
    log = there.folder / "run.log"
    until(lambda: cluster.running("rule_train"), "a training that a job submitted", 300)
    assert "goes on" in there.status()
    cluster.wait_until_empty(400)
    assert "ended well" in there.status(), log.read_text()
    assert "jobs done" in log.read_text()
