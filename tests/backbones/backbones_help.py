"""Tiny corpora and settings, and how a test runs one of the room's commands."""

import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from realign.artifacts.command import Command, execute
from realign.artifacts.store import WorkStore
from realign.commands import load_command

ROOT = Path(__file__).parents[2]

MICRO: dict[str, Any] = {
    "architecture": {"layers": 2, "width": 16, "feed_forward": 32, "heads": 2, "key_value_heads": 1,
                     "head_width": 8, "positions": 128},
    "tokenizer": {"vocabulary": 300},
    "batch": 4,
    "length": 64,
    "held_out": 0.2,
    "hardware": {"micro_batch": 2, "checkpoint_every": 3},
}  # fmt: skip


def sums(count: int, seed: int, wrong: float = 0.0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        level = 1 + i % 2
        a, b = (draw.randrange(10**level) for _ in range(2))
        said = a + b + (draw.choice((-1, 1)) if draw.random() < wrong else 0)
        rows.append(
            {"id": f"s{seed}-{i}", "question": f"What is {a} + {b}?", "answer": str(a + b),
             "trace": f"{a}+{b}={said}\nAnswer: {said}", "task": "sum", "difficulty": level}
        )  # fmt: skip
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pretraining(corpora: Path) -> dict[str, Path]:
    return {"text": corpora / "text.jsonl", "problems": corpora / "pretrain.jsonl"}


def make(
    command: str, settings: dict[str, Any], inputs: dict[str, Any], folder: Path, store: Path | None = None
) -> Path:
    """Run a command as the command line does; its outputs lie in `folder`."""
    declared: Command = load_command(command)
    execute(
        declared,
        declared.settings.model_validate(settings),
        inputs,
        {name: folder / name for name in declared.outputs},
        WorkStore(store or folder / ".work"),
    )
    return folder


def weights(model: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(model / "model.safetensors")


def same_weights(left: Path, right: Path) -> bool:
    """Whether two models are equal to the bit."""
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def snakemake(place: Path, config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--configfile", str(config),
         "--cores", "1", "--workflow-profile", "none", "--rerun-triggers", "mtime", "input", "params",
         "--directory", str(place), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def build_wheel(index: Path, name: str, files: dict[str, bytes]) -> Path:
    """A small wheel in a local folder that stands for the package index."""
    index.mkdir(exist_ok=True)
    wheel = index / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nLicense-Expression: MIT\n"
            "Requires-Dist: not-there\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel
