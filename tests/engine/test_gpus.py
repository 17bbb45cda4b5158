"""Jobs of one machine that run at once share its GPUs out among themselves."""

import contextlib
import json
import subprocess
import sys
import time

import pytest

from realign.engine import gpus
from realign.engine.gpus import visible_gpus
from realign.runs import run

JOB = """
import json, logging, sys, time
from realign.engine.gpus import take_gpus, visible_gpus

logging.basicConfig(level="INFO", format="%(message)s")
take_gpus(int(sys.argv[1]))
print(json.dumps([time.time(), visible_gpus()]), flush=True)
sys.stdin.read()
"""


def test_gpus_are_counted_without_torch(monkeypatch):
    for given, names in (("0,1,3", ["0", "1", "3"]), ("", []), ("-1", []), ("GPU-ab12", ["GPU-ab12"])):
        monkeypatch.setenv(gpus.VISIBLE, given)
        assert visible_gpus() == names


def test_jobs_at_once_never_see_the_same_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(gpus.VISIBLE, "0,1,2,3")
    with contextlib.ExitStack() as running:

        def job(count: int) -> subprocess.Popen[str]:
            """A job that holds its GPUs until its input ends, as it does when this test fails."""
            words = [sys.executable, "-c", JOB, str(count)]
            pipe = subprocess.PIPE
            return running.enter_context(
                subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            )

        first, second = job(2), job(2)
        seen = [json.loads(each.stdout.readline())[1] for each in (first, second)]
        assert sorted(seen[0] + seen[1]) == ["0", "1", "2", "3"]
        third = job(3)
        assert third.stderr.readline() == "waiting for 3 of 4 GPUs, which other jobs have taken\n"
        first.communicate()
        released = time.time()
        second.communicate()
        taken, names = json.loads(third.communicate()[0])
        assert taken > released
        assert len(names) == 3


def test_gpus_may_be_named_with_slashes(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "_held", [])
    parts = ["MIG-GPU-ab12/1/0", "MIG-GPU-ab12/2/0"]
    assert gpus._take(tmp_path, parts, 2) == parts
    assert gpus._take(tmp_path, parts, 1) == []


def test_a_job_takes_all_that_it_asks_for_or_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "_held", [])
    assert gpus._take(tmp_path, ["0", "1", "2"], 2) == ["0", "1"]
    assert gpus._take(tmp_path, ["0", "1", "2"], 2) == []
    assert gpus._take(tmp_path, ["0", "1", "2"], 1) == ["2"]  # which the failed attempt let go
    for stream in gpus._held:
        stream.close()
    assert gpus._take(tmp_path, ["0", "1", "2"], 3) == ["0", "1", "2"]


def test_where_there_are_too_few_gpus_nobody_waits(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(gpus.VISIBLE, "0")
    began = time.monotonic()
    gpus.take_gpus(2)  # the job says afterwards why it has too few
    assert time.monotonic() - began < 1
    assert visible_gpus() == ["0"]


def test_a_job_that_asks_for_more_gpus_than_there_are_is_let_through_to_say_so(tmp_path, monkeypatch):
    """Snakemake would say that two jobs are connected by a pipe."""
    given = []
    monkeypatch.setattr(run, "_snakemake", lambda options: given.extend(options) or 1)
    monkeypatch.setenv(gpus.VISIBLE, "0")
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    study = tmp_path / "study.yaml"
    study.write_text(
        "study: {name: mine}\nbackbones: {big: {path: big}}\n"
        "resources: {rules: {train: {gpus: 2}}, backbones: {big: {extract: {gpus: 4}}}}\n"
    )
    run.main([str(study)])
    assert "--resources=gpu=4" in given


def test_a_profile_from_the_environment_says_where_jobs_run(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(run, "_snakemake", lambda options: given.extend(options) or 1)
    monkeypatch.setenv(gpus.VISIBLE, "0,1")
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "cluster")
    study = tmp_path / "study.yaml"
    study.write_text("study: {name: mine}\nbackbones: {}\n")
    run.main([str(study)])
    assert not [word for word in given if word.startswith("--resources")]


@pytest.mark.parametrize(
    ("seen", "words", "capped"),
    [
        ("0,1", [], True),
        ("0,1", ["--resources", "gpu=1"], False),
        ("0,1", ["--workflow-profile=workflow/profiles/slurm"], False),
        ("", [], False),
    ],
)
def test_a_run_gives_out_as_many_gpus_as_there_are(tmp_path, monkeypatch, seen, words, capped):
    given = []
    monkeypatch.setattr(run, "_snakemake", lambda options: given.extend(options) or 1)
    monkeypatch.setenv(gpus.VISIBLE, seen)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    study = tmp_path / "study.yaml"
    study.write_text("study: {name: mine}\nbackbones: {}\n")
    run.main([str(study), *words])
    assert ("--resources=gpu=2" in given) == capped
