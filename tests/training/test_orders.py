import json
import subprocess
import sys

from realign.names import EmbedderId
from realign.training.record import write_tidy


def command(tmp_path, trainings):
    paths = []
    for (backbone, recipe, seed), order in trainings.items():
        path = tmp_path / f"{backbone}+{recipe}+s{seed}.parquet"
        lines = [{"step": 0, "batch_order": order}, {"step": 1, "loss": 0.5}]
        write_tidy(path, lines, "tiny", EmbedderId(backbone, recipe, seed))
        paths.append(str(path))
    words = [sys.executable, "-m", "realign.cli", "batch_orders", "--store", str(tmp_path / "store")]
    words += ["--report", str(tmp_path / "report.json"), "--trainings", *paths]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_equal_orders_are_reported(tmp_path):
    trainings = {("base", "full", 0): "0123456789ab", ("rlvr", "full", 0): "0123456789ab"}
    assert command(tmp_path, trainings | {("base", "full", 1): "ffffffffffff"}).returncode == 0
    assert json.loads((tmp_path / "report.json").read_text()) == [
        {"recipe": "full", "seed": 0, "batch_order": "0123456789ab", "backbones": ["base", "rlvr"]},
        {"recipe": "full", "seed": 1, "batch_order": "ffffffffffff", "backbones": ["base"]},
    ]


def test_different_orders_of_what_is_compared_stop_the_run(tmp_path):
    trainings = {("base", "full", 0): "0123456789ab", ("rlvr", "full", 0): "0123456789ac"}
    said = command(tmp_path, trainings)
    assert said.returncode == 1
    assert "recipe full, seed 0: base 0123456789ab, rlvr 0123456789ac" in said.stderr
    assert not (tmp_path / "report.json").exists()
