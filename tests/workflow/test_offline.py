"""After set-up nothing needs a network: stages run for real where there is none but the machine's own loop."""

import copy
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from micro_study import LOCAL, ROOT, STUDY, TARGETS, Place, write_given

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


@pytest.fixture(scope="module")
def unshare():
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare, which takes the network away")
    tried = subprocess.run(["unshare", "-rn", "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"the network can't be taken away here: {tried.stderr.strip()}")
    return ["unshare", "-rn", sys.executable, "-c", ALONE]


@pytest.fixture
def offline(unshare, tmp_path):
    """Runs a module in a place, without a network and without anything that a hub's cache may hold."""

    def run(place, module, *words):
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("REALIGN_", "PYTEST_", "HF_"))
        }
        done = subprocess.run(
            [*unshare, sys.executable, "-m", module, *words],
            cwd=place.folder, env=environment | {"HF_HOME": str(tmp_path / "hub")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stdout

    return run


def test_the_embedded_study_is_planned_without_a_network(offline, tmp_path):
    place = Place(tmp_path / "place", yaml.safe_load((ROOT / "config.yaml").read_text()))
    planned = offline(place, "realign.cli", "plan", "--all")
    assert {"corpora", "pretrain", "train", "evaluate_warm", "report"} <= set(planned.split())


@pytest.mark.slow
def test_text_mining_training_evaluation_and_comparison_run_without_a_network(offline, tmp_path):
    study = copy.deepcopy(STUDY)
    study["hrsa"]["corpora"] = ["words"]
    study["text"] |= {
        "train_packages": ["numpy"], "heldout_packages": ["networkx", "pyparsing"], "pretrain_mb": 0.3,
        "pairs": 50, "queries": 20, "corpus": 40, "items": 40, "topics": 4,
    }  # fmt: skip
    study["text"]["probes"]["docs"] = {"embedded": "docs", "limit": 20}
    place = Place(tmp_path / "place", study)
    write_given(place.folder / "given")
    made = [f"results/micro/text/{name}" for name in ("probes/docs.jsonl", "corpora.stats.json")]
    offline(place, "snakemake", *LOCAL, "--", *TARGETS, *made)
    assert all((place.folder / name).is_file() for name in made)
    for part in ("training", "scores", "measures"):
        assert list((place.results / "tidy" / part).rglob("*.parquet")), part
