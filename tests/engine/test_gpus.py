"""Jobs of one machine that run at once share its GPUs out among themselves."""

import json
import subprocess
import sys
import time

import pytest

from realign.engine import gpus
from realign.engine.gpus import visible_gpus
from realign.runs import run

JOB = """
import json, sys, time
from realign.engine.gpus import take_gpus, visible_gpus

take_gpus(int(sys.argv[1]))
began = time.time()
time.sleep(1.0)
print(json.dumps([began, time.time(), visible_gpus()]))
"""


def test_gpus_are_counted_without_torch(monkeypatch):
    for given, names in (("0,1,3", ["0", "1", "3"]), ("", []), ("-1", []), ("GPU-ab12", ["GPU-ab12"])):
        monkeypatch.setenv(gpus.VISIBLE, given)
        assert visible_gpus() == names


def test_jobs_at_once_never_see_the_same_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(gpus.VISIBLE, "0,1,2,3")
    asked = [2, 2, 3, 1]
    jobs = [
        subprocess.Popen([sys.executable, "-c", JOB, str(count)], stdout=subprocess.PIPE) for count in asked
    ]
    done = [json.loads(job.communicate(timeout=120)[0]) for job in jobs]
    assert [len(seen) for _, _, seen in done] == asked
    for i, (began, ended, seen) in enumerate(done):
        for other_began, other_ended, others in done[:i]:
            if began < other_ended and other_began < ended:
                assert not set(seen) & set(others)
    assert {name for _, _, seen in done for name in seen} == {"0", "1", "2", "3"}


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
    study = tmp_path / "study.yaml"
    study.write_text("study: {name: mine}\nbackbones: {}\n")
    run.main([str(study), *words])
    assert ("--resources=gpu=2" in given) == capped
