"""The commands that install the project are ones that its locks can serve."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def installs() -> list[tuple[str, str]]:
    """Every pip command without build isolation in the project's text, and the file that it stands in."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = []
    for name in listed.stdout.split():
        place = ROOT / name
        if name.startswith("tests/") or not place.is_file():
            continue
        text = place.read_bytes().decode("utf-8", "ignore").replace("\\\n", " ")
        found += [(name, line) for line in text.splitlines() if "--no-build-isolation" in line]
    return found


def test_no_install_without_isolation_builds_this_project_too():
    """pip would need this project's build backend in the environment, and no lock holds it."""
    locked = {line.split("==")[0] for line in (ROOT / "envs/gpu.lock").read_text().splitlines()}
    assert "hatchling" not in locked
    assert installs()
    for name, line in installs():
        command = line.split("--no-build-isolation")[1]
        assert not re.search(r"(^|\s)-e\s|\.\[", command), name
        # Each compiler of flash-attention takes several GB, and without a bound there is one to a core.
        assert "flash-attn" not in command or "MAX_JOBS=" in line, name


def test_the_lock_holds_what_flash_attentions_build_imports():
    """Its setup.py imports these without declaring them."""
    locked = {line.split("==")[0] for line in (ROOT / "envs/gpu.lock").read_text().splitlines()}
    assert {"setuptools", "wheel", "packaging", "psutil", "ninja", "torch"} <= locked


FAKE_UV = """#!/usr/bin/env bash
for out; do :; done  # the last word is the file
case "$*" in *torch-backend*) echo "out of reach" >&2; exit 2;; esac
printf 'torch==2.13.0\\nnvidia-nccl-cu13==1.0\\n' >"$out"
"""


def test_locks_are_written_where_the_index_for_cuda_12_is_out_of_reach(tmp_path):
    envs = tmp_path / "envs"
    envs.mkdir()
    (envs / "lock.sh").write_text((ROOT / "envs/lock.sh").read_text())
    (envs / "gpu-cuda12.lock").write_text("of before\n")
    uv = tmp_path / "uv"
    uv.write_text(FAKE_UV)
    uv.chmod(0o755)
    done = subprocess.run(
        ["bash", str(envs / "lock.sh")],
        env={"PATH": os.environ["PATH"], "UV": str(uv)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "gpu-cuda12.lock is not made anew" in done.stderr
    first, *rest = (envs / "gpu.lock").read_text().splitlines()
    assert first.startswith("# Made by `make lock`")
    assert rest == ["torch==2.13.0", "nvidia-nccl-cu13==1.0"]
    assert (envs / "cpu.lock").read_text().splitlines() == [first, "torch==2.13.0"]
    assert (envs / "gpu-cuda12.lock").read_text() == "of before\n"
