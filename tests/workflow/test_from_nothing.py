"""Runs from nothing need no network and give equal numbers: the embedded study made small, run twice."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from micro_study import LOCAL, ROOT, Place
from realign.tools.diff import INCIDENTAL

# Processes of one training talk over the loop, which is down in a new namespace and up on every machine.
ALONE = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 1))
try:
    socket.socket(type=socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
except OSError:
    os.execvp(sys.argv[1], sys.argv[1:])
sys.exit("there is a way out of this namespace")
"""


def alone() -> list[str]:
    """The words before a command that take the network away; none where this machine can't."""
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run(["unshare", "-rn", "true"], capture_output=True)
    return [] if tried.returncode else ["unshare", "-rn", sys.executable, "-c", ALONE]


@pytest.fixture
def offline(tmp_path):
    """Runs a module in a place, without anything that a hub's cache may hold; without a network if it can."""

    def run(place, module, *words):
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("REALIGN_", "PYTEST_", "HF_"))
        }
        done = subprocess.run(
            [*alone(), sys.executable, "-m", module, *words],
            cwd=place.folder, env=environment | {"HF_HOME": str(tmp_path / "hub")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stdout

    return run


def test_the_embedded_study_is_planned_without_a_network(offline, tmp_path):
    if not alone():
        pytest.skip("the network can't be taken away on this machine (`unshare -rn true` fails)")
    place = Place(tmp_path / "place", yaml.safe_load((ROOT / "config.yaml").read_text()))
    planned = offline(place, "realign.cli", "plan", "--all")
    assert {"corpora", "pretrain", "train", "evaluate_warm", "report"} <= set(planned.split())


def small_study():
    """Every kind of stage of the embedded study, a few steps of each."""
    study = yaml.safe_load((ROOT / "config.yaml").read_text())
    study["text"] = {
        "train_packages": ["numpy"], "heldout_packages": ["networkx", "pyparsing"], "pretrain_mb": 0.3,
        "pairs": 60, "queries": 20, "corpus": 40, "items": 40, "topics": 4,
    }  # fmt: skip
    for name, made in (("base", "pretrain"), ("rlvr", "rlvr"), ("sft", "sft")):
        study["backbones"][name][made] |= {"optimisation": {"steps": 3}}
    study["data"]["datasets"] = {"summaries": {"embedded": "summary-description"}}
    study["recipes"] = {"full": study["recipes"]["full"] | {"checkpoints": [2]}}
    study["recipes"]["full"]["batches"] |= {"size": 8, "steps": 4}
    study["recipes"]["full"]["validation"] = {"samples": 8, "every": 2}
    study["states"]["tokens"]["count"] = 400
    study["hrsa"] |= {"backbone_attention": ["causal"], "neighbours": {"k": [5]}}
    tasks = study["evaluation"]["tasks"]
    study["evaluation"]["tasks"] = {n: tasks[n] for n in ("DocsRetrieval", "TopicClassification")}
    return study


def numbers(place):
    """What a run measured, by file: tidy tables and the figures' numbers."""
    found = {}
    for path in sorted(place.results.glob("tidy/**/*.parquet")):
        table = pd.read_parquet(path)
        if "metric" in table:
            table = table[~table["metric"].isin(INCIDENTAL)]
        found[path.relative_to(place.results)] = table.reset_index(drop=True)
    for path in sorted(place.results.glob("figures/*.csv")):
        found[path.relative_to(place.results)] = path.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_run_without_a_network_and_another_give_the_same_numbers_to_the_last_bit(offline, tmp_path):
    first, second = (Place(tmp_path / name, small_study()) for name in ("one", "two"))
    offline(first, "snakemake", *LOCAL)
    second.run(*LOCAL)
    one, two = numbers(first), numbers(second)
    assert list(one) == list(two)
    kinds = {path.parts[1] for path in one if path.parts[0] == "tidy"}
    assert {"measures", "scores", "queries", "training", "mining", "backbones", "claims.parquet"} <= kinds
    assert any(path.suffix == ".csv" for path in one)
    for path, found in one.items():
        if path.suffix == ".csv":
            assert found == two[path], path
        else:
            pd.testing.assert_frame_equal(found, two[path], check_exact=True, obj=str(path))
