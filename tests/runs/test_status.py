"""The status of runs that are alive, ended, and killed, as their journals tell it."""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm

from realign.artifacts.command import UserError
from realign.engine.logs import LogFile, Mark
from realign.runs import status
from realign.runs.journal import JobStatus, RunJournal, read_journal, record_of
from realign.runs.queue import user_here
from realign.runs.status import LEAST_PAUSE

SNAKEFILE = """
    from pathlib import Path
    from realign.runs.journal import end_journal, keep_journal
    RECORD = Path("results/toy/.runs/20260101-000000-1.json")
    rule all:
        input: "a.txt", "b.txt", "c.txt"
    rule good:
        output: "a.txt"
        log: "a.log"
        shell: "touch {output}"
    rule bad:
        output: "b.txt"
        log: "b.log"
        shell: "echo 'bad: raw.jsonl, line 3: no query' > {log}; exit 1"
    rule slow:
        input: "a.txt"
        output: "c.txt"
        log: "c.log"
        shell: "sleep $(cat seconds); touch {output}"
    onstart:
        keep_journal(RECORD, workflow.dag)
    onsuccess:
        end_journal(success=True)
    onerror:
        end_journal(success=False)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(textwrap.dedent(SNAKEFILE))
    (tmp_path / "config.yaml").write_text("study: {name: toy}\nbackbones: {}\n")
    words = [sys.executable, "-m", "snakemake", "-c3", "--keep-going", "--nolock", "--quiet", "all"]

    def start(seconds):
        (tmp_path / "seconds").write_text(str(seconds))
        return subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)

    return start


def rows(said):
    return {
        line.split()[0]: [int(n) for n in line.split()[1:5]]
        for line in said.splitlines()
        if line[-1:].isdigit()
    }


def test_a_run_that_ended_tells_what_failed_and_why(toy, capsys):
    with pytest.raises(UserError, match="no run below results/toy yet"):
        status.main([])
    assert toy(0).wait() != 0
    assert status.main([]) == 1
    said = capsys.readouterr().out
    assert "ended with failures" in said
    table = rows(said)
    assert (table["good"], table["bad"], table["slow"]) == ([1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0])
    assert table["all"] == [2, 0, 0, 1]
    assert "why: bad: raw.jsonl, line 3: no query" in said
    assert "log: b.log" in said


def test_a_run_is_alive_until_it_is_killed(toy, capsys):
    process = toy(60)
    deadline = time.monotonic() + 60
    while True:
        time.sleep(0.3)
        with contextlib.suppress(UserError):  # not begun yet
            status.main([])
        said = capsys.readouterr().out
        if "slow  for" in said or time.monotonic() > deadline:
            break
    assert "goes on" in said
    assert rows(said)["slow"] == [0, 1, 0, 0]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    status.main([])
    said = capsys.readouterr().out
    assert "is dead: its Snakemake was killed" in said
    assert "queue" not in said
    assert "Was running:\n  slow" in said


def failed(tmp_path, text, message, **wildcards):
    log = tmp_path / "job.log"
    place = tmp_path / "run.journal.jsonl"
    journal = RunJournal(place, {"train": 2})
    record = logging.makeLogRecord
    job = {"jobid": 4, "rule_name": "train", "wildcards": wildcards, "log": [str(log)]}
    journal.emit(record({"event": "job_info", **job}))
    log.write_text(text)
    journal.emit(record({"event": "job_error", "rule_msg": message, **job}))
    journal.write("ended", success=False)
    return read_journal(place)


@pytest.mark.parametrize(
    ("log", "message", "change"),
    [
        ("", "SLURM status is: 'OUT_OF_MEMORY'", "resources.backbones.base.train.memory_gb"),
        ("slurmstepd: *** CANCELLED DUE TO TIME LIMIT ***", None, "resources.backbones.base.train.hours"),
        ("", "SLURM status is: 'NODE_FAIL'", "run it again"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to", None, "token budget"),
        ("OSError: [Errno 28] No space left on device", None, "room on the disk"),
        ("train: no CUDA device here", None, "resources.backbones.base.train.gpus"),
        ("train: a row is empty", None, ""),
    ],
)
def test_what_to_change_is_said_where_it_is_known(tmp_path, log, message, change):
    story = failed(tmp_path, log, message, backbone="base", recipe="full", seed="0")
    (told,) = story.jobs.values()
    why = status.reason(told)
    assert (log or message) in why
    assert change in status.remedy_of(told, why)
    assert bool(change) == bool(status.remedy_of(told, why))
    said = status.render(tmp_path, story)
    assert "train(backbone=base, recipe=full, seed=0)" in said
    assert rows(said)["train"] == [0, 0, 1, 1]
    assert json.loads(status.as_json(story))["jobs"][0]["reason"] == why


def test_a_death_without_a_word_is_said(tmp_path):
    (told,) = failed(tmp_path, "", None).jobs.values()
    assert "without a word" in status.reason(told)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_the_last_error_of_a_log_is_told_whole_also_of_a_command_that_is_not_named_like_its_rule(
    tmp_path, command
):
    text = f"INFO begins\n{command}: the settings are not usable:\n  - a: missing\n  - b: missing\n"
    (told,) = failed(tmp_path, text, None).jobs.values()
    assert status.reason(told) == f"{command}: the settings are not usable: - a: missing - b: missing"


def test_a_crash_is_not_explained_by_what_an_earlier_attempt_said_last(tmp_path):
    stopped = "train: saved at step 12 of 400; what was finished is kept. Run it again to go on\n"
    crashed = "10:00:00 E realign.cli: train stopped on an error of its own\nTraceback\nKeyError: 'loss'\n"
    (told,) = failed(tmp_path, stopped + crashed, None).jobs.values()
    assert status.reason(told) == "KeyError: 'loss'"
    (tmp_path / "job.log").unlink()
    (told,) = failed(tmp_path, crashed + stopped, None).jobs.values()
    assert status.reason(told) == stopped.strip()


def test_what_an_attempt_said_is_found_on_machines_whose_clocks_differ(tmp_path):
    log = tmp_path / "job.log"
    LogFile(log).go_on()
    log.write_text("train: step 46: the queries have collapsed\n")
    job = JobStatus("train", "train", {}, [str(log)], time.time())
    job.marks = [Mark.of(Path(log)) for log in job.logs]
    assert status.reason(job).startswith("it died without a word")
    assert not job.died
    log.unlink()  # as Snakemake does before an attempt, which keeps what the one before said
    LogFile(log).go_on()
    with log.open("a") as stream:
        stream.write("10:00:00 I realign.training: step 60 of 700\ntrain: shard 3 is damaged\n")
    os.utime(log, (1, 1))
    assert status.reason(job) == "train: shard 3 is damaged"
    assert job.died


def test_how_far_a_job_had_come_is_not_why_it_died(tmp_path):
    text = "10:00:00 I realign.artifacts.command: train: already made, publishing from x\n"
    (told,) = failed(tmp_path, text, "SLURM status is: 'FAILED'. For further error details see").jobs.values()
    assert status.reason(told) == "SLURM status is: 'FAILED'."


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    failed(tmp_path, "", None)
    place = tmp_path / "run.journal.jsonl"
    with place.open("a") as stream:
        stream.write('{"event": "fini')
    assert read_journal(place).success is False


def test_a_dead_run_names_its_jobs_that_the_cluster_still_has(toy, capsys, tmp_path, monkeypatch):
    process = toy(60)
    records = tmp_path / "results" / "toy" / ".runs"
    while not list(records.glob("*.journal.jsonl")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (records / "20260101-000000-1.json").write_text('{"queue": "realign_1"}')
    squeue = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for answer, word in (
        (f"echo '17|RUNNING|{user_here()}|rule_slow'", "scancel 17"),
        ("echo 'no answer' >&2; exit 1", "the queue can't be asked: no answer"),
    ):
        squeue.write_text(f"#!/bin/sh\n{answer}\n")
        squeue.chmod(0o755)
        status.main([])
        said = capsys.readouterr().out
        assert "is dead" in said
        assert word in said


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """A run that is alive and has given jobs 1 and 2 and the group of 3 and 4 to a queue; 5 runs beside it, 6 waits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("realign.runs.journal._is_locked", lambda place: True)
    (tmp_path / "config.yaml").write_text("study: {name: toy}\nbackbones: {}\n")
    place = tmp_path / "results/toy/.runs/20260101-000000-1.journal.jsonl"
    journal = RunJournal(place, {"train": 6, "collect_scores": 1}, local=["collect_scores"])
    record_of(place).write_text('{"queue": "realign_1"}')
    members = [SimpleNamespace(jobid=n, uuid=lambda n=n: f"unique-{n}") for n in (3, 4)]
    say = [{"event": "group_info", "group_id": "train", "jobs": members}]
    for number in range(1, 7):
        wildcards, rule = {"backbone": f"b{number}"}, "collect_scores" if number == 5 else "train"
        job = {"jobid": number, "rule_name": rule, "wildcards": wildcards, "log": [f"{number}.log"]}
        say.append({"event": "job_info", **job})
    for job, number in (("1", 17), ("2", 18), ("unique-4", 19)):
        say.append({"msg": f"Job {job} has been submitted with SLURM jobid {number} (log: x/{number}.log)."})
    for record in say:
        journal.emit(logging.makeLogRecord(record))

    def ask(shell, *words):
        (tmp_path / "squeue").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{shell}\n')
        (tmp_path / "squeue").chmod(0o755)
        assert status.main(["--configfile", "config.yaml", *words]) == 0

    return ask


def states(said):
    return [job["state"] for job in json.loads(said)["jobs"]]


def test_jobs_that_wait_in_the_queue_are_told_from_those_that_run(submitted, tmp_path, capsys):
    submitted("echo '17|PENDING|Priority'; echo '18|RUNNING|None'; echo '19|PENDING|PartitionTimeLimit'")
    said = capsys.readouterr().out
    assert (rows(said)["train"], rows(said)["collect_scores"]) == ([0, 1, 5, 0], [0, 1, 0, 0])
    running, queued = said.split("Running:")[1].split("Waiting for the cluster:")
    assert "train(backbone=b2)  submitted as 18, 0 s ago; log: 2.log" in running
    assert "collect_scores(backbone=b5)  for 0 s; log: 5.log" in running
    assert [line.split()[0][-3:-1] for line in queued.strip().splitlines()] == ["b1", "b3", "b4", "b6"]
    assert "train(backbone=b6)  for 0 s, waits: Snakemake has not submitted it yet" in queued
    assert (tmp_path / "asked").read_text() == "--noheader --name=realign_1 --states=all --format=%i|%T|%r\n"
    assert "submitted as 17, 0 s ago, waits: others come first" in queued
    assert "waits: it will never start, since its limit is above the partition's" in queued
    submitted("echo '17|PENDING|None'; echo '18|FAILED|NonZeroExitCode'", "--json")
    # 19 is in the queue no more: it has ended, and Snakemake has not asked yet
    assert states(capsys.readouterr().out) == ["queued", "ended", "ended", "ended", "running", "queued"]


@pytest.mark.parametrize("shell", ["echo 'no answer' >&2; exit 1", "sleep 5"])
def test_a_queue_that_does_not_answer_leaves_jobs_running(submitted, capsys, monkeypatch, shell):
    monkeypatch.setattr("realign.runs.queue.PATIENCE", 1)
    submitted(shell, "--json")
    told = capsys.readouterr()
    assert states(told.out) == [*["running"] * 5, "queued"]
    assert "the queue can't be asked: " in told.err


def killed(tmp_path, monkeypatch, jobs, planned):
    """A run whose Snakemake is dead, and its jobs' logs: of those that ended well, and of those that did not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "config.yaml").write_text("study: {name: toy}\nbackbones: {}\n")
    place = tmp_path / "results/toy/.runs/20260101-000000-1.journal.jsonl"
    journal = RunJournal(place, {"train": planned})
    record_of(place).write_text('{"queue": "realign_1"}')
    for number, ended_well in enumerate(jobs):
        log = tmp_path / f"{number}.log"
        job = {
            "jobid": number,
            "rule_name": "train",
            "wildcards": {"backbone": f"b{number}"},
            "log": [str(log)],
        }
        journal.emit(logging.makeLogRecord({"event": "job_info", **job}))
        said = f"Job {number} has been submitted with SLURM jobid {17 + number} (log: x.log)."
        journal.emit(logging.makeLogRecord({"msg": said}))
        LogFile(log).go_on()
        log.write_text("working\n")
        if ended_well:
            LogFile(log).end()
    journal._stream.close()  # which frees the lock, as the end of the process does
    (tmp_path / "squeue").write_text("#!/bin/sh\n")
    (tmp_path / "squeue").chmod(0o755)


def test_a_killed_run_whose_jobs_have_all_ended_well_has_nothing_left_to_do(tmp_path, monkeypatch, capsys):
    killed(tmp_path, monkeypatch, [True, True], planned=2)
    status.main([])
    said = capsys.readouterr().out
    assert "was killed, and the jobs that it left have ended well: nothing is left to do" in said
    assert rows(said)["train"] == [2, 0, 0, 0]


def test_a_killed_runs_job_that_the_queue_has_no_more_is_not_running(tmp_path, monkeypatch, capsys):
    killed(tmp_path, monkeypatch, [True, False], planned=3)
    status.main(["--configfile", "config.yaml"])
    said = capsys.readouterr().out
    assert "run it again, and it goes on where it was (if it finds the folder locked: " in said
    assert "snakemake --unlock --configfile config.yaml)" in said
    assert "Ended before the work was done:\n  train(backbone=b1)" in said
    assert "Was running" not in said
    assert rows(said)["train"] == [1, 0, 2, 0]  # it waits for the next run


def test_a_watched_run_is_shown_until_it_ends(submitted, tmp_path, capsys, monkeypatch):
    lives = iter([True, True, False])
    monkeypatch.setattr("realign.runs.journal._is_locked", lambda place: next(lives))
    pauses = []
    monkeypatch.setattr(status, "time", SimpleNamespace(**vars(time) | {"sleep": pauses.append}))
    submitted("true", "--watch", "0.01")
    assert capsys.readouterr().out.count("the run that began") == 3
    assert pauses == [LEAST_PAUSE] * 2  # since its jobs are in a queue


def test_a_run_without_a_queue_is_watched_as_often_as_you_like(tmp_path, capsys, monkeypatch):
    pauses, lives = [], iter([True, False])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("study: {name: toy}\nbackbones: {}\n")
    RunJournal(tmp_path / "results/toy/.runs/20260101-000000-1.journal.jsonl", {"train": 1})._stream.close()
    monkeypatch.setattr("realign.runs.journal._is_locked", lambda place: next(lives))
    monkeypatch.setattr(status, "time", SimpleNamespace(**vars(time) | {"sleep": pauses.append}))
    status.main(["--watch", "0.01"])
    assert pauses == [0.01]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_pause_is_a_finite_number_above_0(seconds, capsys):
    with pytest.raises(SystemExit):
        status.main([f"--watch={seconds}"])
    assert "--watch" in capsys.readouterr().err


def test_without_a_queue_nothing_is_asked(submitted, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    submitted("exit 1", "--json")
    told = capsys.readouterr()
    assert states(told.out) == [*["running"] * 5, "queued"]
    assert not told.err


def test_the_executor_still_says_what_it_has_submitted():
    text = Path(snakemake_executor_plugin_slurm.__file__).read_text()
    assert re.search(r'f"Job \{job.jobid\} has been submitted with SLURM jobid "\s+f"\{slurm_jobid\} ', text)


def test_of_a_group_only_the_job_that_died_has_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("study: {name: toy}\nbackbones: {}\n")
    journal = RunJournal(tmp_path / "results/toy/.runs/20260101-000000-1.journal.jsonl", {"pairs": 3})
    members = [SimpleNamespace(jobid=n, uuid=lambda n=n: f"unique-{n}") for n in (1, 2, 3)]
    say = [{"event": "group_info", "group_id": "pairs", "jobs": members}]
    facts = [
        {"jobid": n, "rule_name": "pairs", "wildcards": {"dataset": f"d{n}"}, "log": [f"{n}.log"]}
        for n in (1, 2, 3)
    ]
    say += [{"event": "job_info", **told} for told in facts]
    say += [{"event": "group_error", "groupid": "pairs", "aux_logs": [], "job_error_info": facts}]
    say += [{"event": "job_error", "rule_msg": None, **told} for told in facts]
    for record in say:
        journal.emit(logging.makeLogRecord(record))
    for number, words in (("1", ""), ("2", "pairs: d2.jsonl, line 3: not JSON\n")):  # 3 never began
        log = tmp_path / f"{number}.log"
        LogFile(log).go_on()
        log.write_text(words)
    LogFile(tmp_path / "1.log").end()
    assert status.main(["--configfile", "config.yaml"]) == 1
    said = capsys.readouterr().out
    assert rows(said)["pairs"] == [0, 0, 2, 1]
    assert "pairs(dataset=d2)\n    why: pairs: d2.jsonl, line 3: not JSON" in said
    assert "d1" not in said.split("Failed:")[1]
