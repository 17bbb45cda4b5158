import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from realign.artifacts.command import Job
from realign.artifacts.store import WorkStore
from realign.commands import load_command


@pytest.fixture
def run_stage(tmp_path: Path) -> Callable[..., Path]:
    """Runs a command's function in a store of its own; returns the folder of its outputs."""

    def run(name: str, settings: dict, **inputs: Path) -> Path:
        command = load_command(name)
        work = WorkStore(tmp_path / ".work").work(name, str(len(list(tmp_path.glob(".work/*")))))
        work.begin()
        checked = command.settings.model_validate(settings)
        from realign.commands import resolve

        resolve(command.run)(Job(command, checked, inputs, work))
        return work.out

    return run


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, *rows: object) -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return write


def run_python(code: str, *words: str, **environment: str) -> str:
    """What a fresh interpreter prints; it inherits nothing but what is given."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def fresh_python() -> Callable[..., str]:
    return run_python
