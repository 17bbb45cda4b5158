"""What every test may rely on."""

import importlib
import logging
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the micro-study, which several rooms' tests run

pytest_plugins = ["small_study"]  # its fixtures: description, results, drawn
BENCH = Path(__file__).parents[1] / "bench"


def pytest_configure(config):
    """Hide a machine's GPUs from tests that are not for them: they expect what a CPU computes."""
    if config.option.markexpr != "gpu" and Path("/dev/nvidiactl").exists():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def benchmark():
    """Gives a benchmark's module by name, imported as it is when it runs as a script."""

    def load(name: str):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(BENCH)
            return importlib.import_module(name)

    return load


@pytest.fixture(autouse=True)
def log_as_it_comes():
    """A command that a test calls sets the package's level; the next test hears all of it again."""
    yield
    logging.getLogger("realign").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def hub_as_it_comes(monkeypatch):
    """Evaluation switches the hub off for its whole process; the next test starts as a user does."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "REALIGN_RUN"):
        monkeypatch.delenv(name, raising=False)
