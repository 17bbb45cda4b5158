"""A real SLURM of four nodes on this machine; it needs root and Debian's packages.

Where there is neither, these tests are skipped and say so.
"""

import os
import shutil
import subprocess

import pytest

from micro_study import CLUSTER, Cluster, Place, write_given


@pytest.fixture(scope="session")
def cluster():
    if os.geteuid() != 0:
        pytest.skip("a SLURM of its own needs root")
    if not (shutil.which("slurmctld") or shutil.which("apt-get")):
        pytest.skip("a SLURM of its own needs slurmctld, or apt-get to install it")
    up = subprocess.run(["bash", str(CLUSTER), "up"], capture_output=True, text=True, timeout=600)
    assert up.returncode == 0, up.stdout + up.stderr
    running = Cluster()
    yield running
    running.cancel_all()
    subprocess.run(["bash", str(CLUSTER), "down", "wipe"], check=True, timeout=120)


@pytest.fixture
def limited(cluster):
    """The cluster with accounting, which may then limit what a user submits."""
    _again("accounting")
    yield cluster
    cluster.cancel_all()  # a test that failed may leave some, which would outlive the daemons
    cluster.limit_jobs(-1)
    _again()


def _again(*how):
    for words in (["down", "wipe"], ["up", *how]):  # its daemons would hold a pipe open
        subprocess.run(["bash", str(CLUSTER), *words], check=True, stdout=subprocess.DEVNULL, timeout=600)


@pytest.fixture(scope="session")
def given(tmp_path_factory):
    """What the micro-study is given, made once."""
    folder = tmp_path_factory.mktemp("given")
    write_given(folder / "given")
    return folder / "given"


@pytest.fixture
def place(tmp_path, given):
    """Makes folders with a study in them."""

    def make(name: str, study: dict) -> Place:
        made = Place(tmp_path / name, study)
        shutil.copytree(given, made.folder / "given")
        return made

    return make
