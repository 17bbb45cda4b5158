"""Jobs that a warm process forks: they end, are told and see the code as a cold start would."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the warm process is for Linux")

JOB = """
import json, os, signal, sys, time
import numpy
{extra}
if __name__ == "__main__":
    word = sys.argv[1]
    if word == "tell":
        print(json.dumps([os.getcwd(), os.environ.get("HERE"), "{version}", os.getppid(), torch_threads()]))
    elif word == "exit":
        sys.exit(int(sys.argv[2]))
    elif word == "raise":
        raise RuntimeError("of its own")
    elif word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "wait":
        signal.signal(signal.SIGTERM, lambda *_: (print("saved", file=open(sys.argv[2], "w")), sys.exit(75)))
        open(sys.argv[2] + ".started", "w").close()
        time.sleep(60)
"""
THREADS = """
def torch_threads():
    import torch
    return torch.get_num_threads()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a warm process, whose jobs are a module in a folder of its own."""
    folder = tmp_path_factory.mktemp("warm")
    write_job(folder, "one")
    code = "import sys; from realign.engine.zygote import *; hatch(); print(os.environ[VARIABLE], flush=True); sys.stdin.read()"
    paths = os.pathsep.join([str(folder), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    place = process.stdout.readline().strip()
    yield folder, {**os.environ, "PYTHONPATH": paths, "REALIGN_ZYGOTE": place, "OMP_NUM_THREADS": "2"}
    process.stdin.close()
    process.wait()
    deadline = time.monotonic() + 20
    while Path(place).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(place).exists(), "the warm process outlived its run"


def write_job(folder: Path, version: str) -> None:
    (folder / "warm_job.py").write_text(JOB.format(extra=THREADS, version=version))


def start(environment, *words, **how) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "realign.engine.zygote", "warm_job", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def test_a_child_is_where_and_what_its_command_is(run, tmp_path):
    folder, environment = run
    process = start({**environment, "HERE": "there"}, "tell", cwd=tmp_path)
    cwd, here, version, parent, threads = json.loads(process.communicate()[0])
    assert (cwd, here, version, threads) == (str(tmp_path), "there", "one", 2)
    assert parent not in (os.getpid(), process.pid)  # the warm process forked it

    write_job(folder, "two")
    (folder / "__pycache__").exists() and [p.unlink() for p in (folder / "__pycache__").iterdir()]
    assert json.loads(start(environment, "tell").communicate()[0])[2] == "two"


@pytest.mark.parametrize(("words", "code"), [(("exit", 0), 0), (("exit", 7), 7), (("die",), 137)])
def test_exit_codes_arrive(run, words, code):
    assert start(run[1], *words).wait() == code


def test_an_error_is_told_where_the_command_was_called(run):
    process = start(run[1], "raise")
    assert "RuntimeError: of its own" in process.communicate()[1]
    assert process.returncode == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_child_hears_of_what_its_command_is_told(run, tmp_path, number, code):
    place = tmp_path / "word"
    process = start(run[1], "wait", place)
    wait_for(Path(f"{place}.started"))
    process.send_signal(number)
    assert process.wait() == code
    wait_for(place)  # even where the command was killed, its work is saved


def test_without_a_warm_process_the_work_is_done_cold(run, tmp_path):
    _, environment = run
    process = start({**environment, "REALIGN_ZYGOTE": str(tmp_path / "nobody")}, "tell")
    assert json.loads(process.communicate()[0])[3] == os.getpid()


def wait_for(place: Path) -> None:
    deadline = time.monotonic() + 20
    while not place.exists():
        assert time.monotonic() < deadline, f"{place} never came"
        time.sleep(0.02)
