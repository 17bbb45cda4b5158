"""What becomes of refused submissions, of jobs that SLURM took away, and of limits that are too short."""

import asyncio
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as executor

from realign.runs import slurm
from realign.runs.attempts import enough_time, error_record, give_up_what_a_user_must_mend, record_error
from realign.runs.flow import Flow
from realign.runs.limits import Limits, Partition
from realign.runs.queue import user_here
from realign.runs.slurm import as_ended, telling_the_ended
from realign.study.load import parse_study


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("PREEMPTED", "CANCELLED"),
        ("CANCELLED by 1000", "CANCELLED"),
        ("RUNNING", "RUNNING"),
        ("NODE_FAIL", "NODE_FAIL"),
        ("", ""),
    ],
)
def test_a_state_is_read_by_a_name_that_the_executor_knows(said, read):
    assert as_ended(said) == read


def test_answers_are_put_right_and_a_failed_question_stays_one():
    answers = [({"7": "PREEMPTED", "8": "PENDING"}, 0.1), (None, None), ({}, 0.2)]

    async def query(command, logger):
        return answers.pop(0)

    seen = []
    ask = telling_the_ended(query, seen.append)
    found = [asyncio.run(ask("squeue", None)) for _ in range(3)]
    assert found == [({"7": "CANCELLED", "8": "PENDING"}, 0.1), (None, None), ({}, 0.2)]
    assert seen == [{"7": "PREEMPTED", "8": "PENDING"}, {}, {}]


LIMIT = (
    "SLURM sbatch failed. The error message was 'sbatch: error: AssocMaxSubmitJobLimit\n"
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, "
    "user's size and/or time limits)'.\n    sbatch call:\n        sbatch --wrap=\"{}\"\n"
)
PARTITION = (
    "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: gpuu\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified'.\n"
    '    sbatch call:\n        sbatch --wrap="eyJiYXNlNjQi"\n'
)


class Job(SimpleNamespace):
    """What is used of a Snakemake job."""

    def is_group(self):
        return False


class Executor:
    """An executor whose submissions SLURM answers with these words, one after the other."""

    def __init__(self, *answers):
        self.answers, self.reported, self.said, self.wait = list(answers), [], [], True
        self.logger = SimpleNamespace(warning=self.said.append)
        self.run_uuid, self.lock, self.active_jobs = "realign_1", threading.Lock(), []
        self._job_submission_executor = ThreadPoolExecutor(1)
        self._failed_nodes = set()
        self.cancelled = False

    def cancel(self):
        self.cancelled = True

    def run_job(self, job):
        if answer := self.answers.pop(0):
            self._report_job_error_threadsafe(SimpleNamespace(job=job), answer)

    def _report_job_error_threadsafe(self, info, msg):
        self.reported.append(msg)


def submissions(executor, limits=None, ends=lambda: False):
    return slurm.Submissions(executor, limits or Limits(), ends)


class Waiting(Job):
    """A job that a test looks up by itself."""

    __hash__ = object.__hash__


@pytest.fixture
def job():
    return Waiting(name="train", attempt=1, restart_times=10, log=["x.log"], resources={})


def test_a_submission_refused_for_now_waits_and_spends_no_attempt(job, monkeypatch):
    monkeypatch.setattr(slurm, "FIRST_PAUSE", 0.01)
    away = LIMIT.replace("AssocMaxSubmitJobLimit", "Unable to contact slurm controller (connect failure)")
    tried = Executor(LIMIT, LIMIT, away, "")
    submissions(tried)
    tried.run_job(job)
    assert (tried.answers, tried.reported, job.attempt) == ([], [], 1)
    assert len(tried.said) == 2
    assert "AssocMaxSubmitJobLimit" in tried.said[0]


@pytest.mark.parametrize(
    ("said", "for_now"),
    [
        ("QOSMaxSubmitJobPerUserLimit", True),
        ("AssocGrpSubmitJobsLimit", True),
        ("Batch job submission failed: Job violates accounting/QOS policy (job submit limit, …)", True),
        ("QOSMaxWallDurationPerJobLimit; Job violates accounting/QOS policy (job submit limit, …)", False),
        ("Batch job submission failed: Required partition not available (inactive or drain)", True),
        ("Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("Batch job submission failed: Access/permission denied", False),
    ],
)
def test_a_refusal_for_now_is_told_from_one_for_good(said, for_now):
    assert bool(slurm.FOR_NOW.search(said)) == for_now


def test_a_run_that_ends_stops_waiting(job, monkeypatch):
    tried = Executor(LIMIT, "")
    submissions(tried, ends=lambda: len(tried.answers) == 1)
    tried.run_job(job)
    assert tried.answers == [""]
    assert "not submitted, since the run ends" in tried.reported[0]
    assert job.attempt > job.restart_times


def test_a_run_that_its_user_ends_submits_nothing_more_and_cancels_what_it_has_submitted(
    job, tmp_path, monkeypatch
):
    """The executor would go on with what waits for its turn, after it cancelled the rest."""
    (tmp_path / "scancel").write_text(f"#!/bin/sh\necho $@ > {tmp_path}/asked\n")
    (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tried = Executor(LIMIT, "", "")
    submissions(tried)
    pool = tried._job_submission_executor
    for _ in range(3):
        pool.submit(tried.run_job, job)
    while len(tried.answers) == 3:
        time.sleep(0.01)
    tried.cancel()
    assert (tried.cancelled, tried.answers, tried.reported) == (True, ["", ""], [])
    assert (tmp_path / "asked").read_text() == f"--name=realign_1 --user={user_here()}\n"


def test_a_node_that_failed_is_left_to_slurm(job):
    """Excluded as the executor does it, both nodes of a training, a small partition would be refused for good."""
    tried = Executor("")
    tried._failed_nodes = {"n4"}  # which the user excludes
    submissions(tried)
    tried._failed_nodes.add("n[1-2]")
    tried.run_job(job)
    assert tried._failed_nodes == {"n4"}
    reported = []
    report = slurm.noting_time_limits(lambda info, msg: reported.append(msg), Limits())
    said = "SLURM-job '9' failed due to a node failure, SLURM status is: 'NODE_FAIL'."
    report(SimpleNamespace(job=job), f"{said} Failed nodes will be excluded from future job submissions. ")
    assert reported == [said]


def test_jobs_that_last_long_are_asked_for_less_often(monkeypatch):
    tried = Executor("", "", "")
    watched = submissions(tried)
    assert watched.silence() == 5
    jobs = [Waiting(name="x", resources={}) for _ in range(3)]
    for one in jobs:
        tried.run_job(one)
    tried.active_jobs = [SimpleNamespace(job=one, external_jobid=str(i)) for i, one in enumerate(jobs)]
    now = time.monotonic()
    for age, pause in ((12, 5), (40, 10), (3600, 30)):
        monkeypatch.setattr(slurm.time, "monotonic", lambda age=age: now + age)
        assert watched.silence() == pytest.approx(pause, abs=0.1)


def test_how_long_a_job_waited_says_nothing_of_how_long_it_lasts(monkeypatch):
    """The executor would look for the end of a job of 20 s, which waited for an hour, after half a minute."""
    tried = Executor("", "")
    watched = submissions(tried)
    jobs = [Waiting(name="x", resources={}) for _ in range(2)]
    for one in jobs:
        tried.run_job(one)
    tried.active_jobs = [SimpleNamespace(job=one, external_jobid=str(i)) for i, one in enumerate(jobs)]
    moment = [time.monotonic() + 3600]
    monkeypatch.setattr(slurm.time, "monotonic", lambda: moment[0])
    watched.see({"0": "PENDING", "1": "PENDING"})
    assert watched.silence() == 30
    watched.see({"0": "RUNNING", "1": "PENDING"})
    assert watched.silence() == 5
    moment[0] += 60
    assert watched.silence() == pytest.approx(15)
    tried.active_jobs.pop(0)
    assert watched.silence() == 30


def test_a_retry_that_asks_for_more_than_the_site_allows_is_not_submitted(job):
    tried = Executor("")
    submissions(tried, Limits({"cpu": Partition(240, is_default=True)}))
    job.resources = {"runtime": 480}
    tried.run_job(job)
    assert tried.answers == [""]
    assert "would never start: 8 hours are more than the 4 that partition 'cpu' allows" in tried.reported[0]
    assert job.attempt > job.restart_times


@pytest.mark.parametrize(
    ("said", "setting"),
    [
        (
            "Invalid partition name specified",
            "resources.rules.train.partition, or the profile's slurm_partition",
        ),
        (
            "Invalid account or account/partition combination specified",
            "resources.rules.train.account, or the profile's slurm_account",
        ),
        ("Invalid qos specification", "resources.rules.train.qos"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "resources.rules.train.hours"),
        ("Invalid generic resource (gres) specification", "resources.rules.train.gpus"),
        ("Requested node configuration is not available", "in resources.rules.train"),
    ],
)
def test_a_submission_refused_for_good_fails_once_and_names_the_setting(job, said, setting):
    tried = Executor(PARTITION.replace("invalid partition specified: gpuu", said).replace(
        "Batch job submission failed: Invalid partition name specified", said))  # fmt: skip
    submissions(tried)
    tried.run_job(job)
    (message,) = tried.reported
    assert setting in message
    assert said in message
    assert "eyJ" not in message
    assert job.attempt > job.restart_times


def test_an_account_that_the_executor_itself_finds_invalid_is_refused_for_good(job):
    said = (
        "Job submission failed with exception: The given account nobody appears to be invalid. Available:\na"
    )
    tried = Executor(said)
    submissions(tried)
    tried.run_job(job)
    assert "change resources.rules.train.account" in tried.reported[0]
    assert job.attempt > job.restart_times


def test_a_refused_group_that_the_executor_cannot_report_is_reported(job):
    """It names the rule of a job that it could not submit, and a group has none: the run would wait for ever."""
    tried = Executor("")

    def submit(group):
        try:
            raise RuntimeError("The given account nobody appears to be invalid")
        except RuntimeError:
            raise AttributeError("no rule")  # noqa: B904 (as the executor does)

    tried.run_job = submit
    submissions(tried)
    tried.run_job(job)
    assert "The given account nobody appears to be invalid (change" in tried.reported[0]


def test_the_executor_still_speaks_and_submits_as_it_is_read():
    text = inspect.getsource(executor)
    assert '"SLURM sbatch failed. "' in text
    assert "f\"The error message was '{e.output.strip()}'.\\n\"" in text
    assert 'f"Job submission failed with exception: {e}"' in text
    for name in ("run_job", "_report_job_error_threadsafe", "report_job_error", "sleep", "cancel"):
        assert callable(getattr(executor.Executor, name))
    assert "self._job_submission_executor.submit(self.run_job, job)" in text
    assert "self._failed_nodes.add(node)" in text
    assert f'"{slurm.OF_FAILED_NODES.lstrip()} from future job "' in text
    assert "self._report_job_error_threadsafe(" in inspect.getsource(executor.Executor.run_job)


def test_a_met_time_limit_doubles_the_next_one_where_a_job_cannot_go_on(tmp_path, job):
    log = tmp_path / "x.log"
    job.log, job.resources, told = [str(log)], {"runtime": 60}, []
    job.rule = SimpleNamespace(name="hrsa_linear")
    limits = Limits({"cpu": Partition(150, is_default=True)})
    report = slurm.noting_time_limits(lambda info, msg=None, **others: told.append(msg), limits)
    report(SimpleNamespace(job=job), msg="SLURM-job '7' failed, SLURM status is: 'FAILED'.")
    assert enough_time(log, 60) == 60
    report(SimpleNamespace(job=job), msg="SLURM-job '7' failed, SLURM status is: 'TIMEOUT'.")
    assert len(told) == 2
    assert (enough_time(log, 60), enough_time(log, 500)) == (120, 500)
    study = parse_study({"study": {"name": "m"}, "backbones": {}})
    for rule, hours in (("hrsa_linear", 120), ("train", 60)):
        (tmp_path / "results/m/logs").mkdir(parents=True, exist_ok=True)
        limit = Flow(study, lambda *_: log).limits(rule, memory_gb=1)["runtime"]
        assert (limit({}, 2) if callable(limit) else limit) == hours
    # never beyond what the site allows, where such a job would wait for ever
    for minutes, attempts, asked in ((120, "tried again", 150), (150, "given up", 150)):
        job.resources = {"runtime": minutes}
        report(SimpleNamespace(job=job), msg="SLURM-job '7' failed, SLURM status is: 'TIMEOUT'.")
        assert enough_time(log, 60) == asked
        assert error_record(log).exists() == (attempts == "given up")


def test_what_a_user_must_mend_is_not_tried_again(tmp_path, job):
    handled, log = [], tmp_path / "x.log"
    scheduler = SimpleNamespace(_handle_error=handled.append)
    give_up_what_a_user_must_mend(scheduler)
    job.log = [str(log)]
    scheduler._handle_error(job)
    assert job.attempt == 1
    record_error(log, "train: step 46: the queries have collapsed")
    scheduler._handle_error(job)
    assert job.attempt > job.restart_times
    assert handled == [job, job]
