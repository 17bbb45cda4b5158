"""The micro-study on a real SLURM: the results that this machine alone gives, through kills and changes."""

import copy
import json
import os
import signal
import time

import pandas as pd
import pytest
from safetensors.torch import load_file

from micro_study import LOCAL, STUDY, TARGETS, THROUGH_SLURM, WIDTH, until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]

OF_THE_MACHINE = ("tokens_per_second", "memory_gb", "seconds")  # what no two runs share
ROTATIONS = ("procrustes", "basis_kept")  # measures of a rotation between two models
OF_THE_PROCESS = ("padding_share",)  # what the first process tells of its own part of a batch


def tidy(place, part, without=OF_THE_MACHINE):
    table = pd.read_parquet(place.results / "tidy" / part)
    if "metric" in table:
        table = table[~table["metric"].isin(without)]
    return table.reset_index(drop=True)


def determined(table):
    """Without the rotations of layers that have fewer independent directions than dimensions.

    Byte embeddings are few: what the data leave open of their rotation, the last bit of a weight decides.
    """
    if "measure" not in table:
        return table
    ranks = table[table["statistic"] == "rank"]
    open_ = ranks.loc[ranks["value"] < WIDTH, "layer_left"]
    assert len(open_) < len(ranks)
    return table[~table["measure"].isin(ROTATIONS) | ~table["layer_left"].isin(open_)]


def weights(place, embedder):
    return load_file(place.results / "embedders" / embedder / "model" / "model.safetensors")


def first_step(place, embedder):
    lines = (place.results / "embedders" / embedder / "log.jsonl").read_text().splitlines()
    return next(line for line in map(json.loads, lines) if "gradient_norm" in line)


def test_a_study_on_slurm(cluster, place):
    """One story in one run, since jobs cost seconds: two nodes, a killed Snakemake, changes."""
    alone = place("alone", STUDY)
    alone.run(*LOCAL, "--", *TARGETS)

    study = copy.deepcopy(STUDY)
    study["resources"] = {
        "rules": {"train": {"threads": 1, "memory_gb": 2}},
        "backbones": {"tuned": {"train": {"nodes": 2}}},
    }
    there = place("there", study)

    # Snakemake is killed while jobs run. They are not lost, and a new run does not double them.
    killed = there.start(*THROUGH_SLURM, "--", *TARGETS)
    until(lambda: cluster.running("rule_train"), "a running training")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    left = cluster.hold_still()
    assert left
    stands = there.status()
    assert "is dead: its Snakemake was killed" in stands
    assert "train(backbone=" in stands
    assert "scancel " in stands
    assert all(number in stands for number in left)
    there.run("--unlock")
    submitted = there.submitted()
    assert submitted
    told = there.run(*THROUGH_SLURM, "--", *TARGETS, well=False)
    assert "jobs of an earlier run of this study are still in the queue" in told
    assert all(number in told for number in left)
    assert there.submitted() == submitted
    cluster.let_go(left)
    cluster.wait_until_empty()
    there.run(*THROUGH_SLURM, "--", *TARGETS)
    assert "ended well" in there.status()
    trained = there.results / "logs" / "train" / "base+full+s0.log"
    assert trained.read_text().count("train: working in") == 1

    # The same results; from two nodes, up to the order of additions.
    for part in ("mining/topics.parquet", "training/base+full+s0.parquet", "scores/base+full+s0.parquet"):
        pd.testing.assert_frame_equal(tidy(there, part), tidy(alone, part), check_exact=True)
    for part in (
        "training/tuned+full+s0.parquet",
        "scores/tuned+full+s0.parquet",
        "measures/base--vs--tuned/words+bidirectional.linear.parquet",
        "measures/base+full+s0--vs--tuned+full+s0/words+bidirectional.linear.parquet",
    ):
        found, expected = (determined(tidy(p, part, OF_THE_MACHINE + OF_THE_PROCESS)) for p in (there, alone))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-4)
    assert (there.results / "figures" / "figure_3.svg").is_file()

    # Two nodes train what one process trains: the gradient of the first step, and the parameters.
    log = (there.results / "logs" / "train" / "tuned+full+s0.log").read_text()
    assert "2 processes on 2 nodes" in log
    assert first_step(there, "tuned+full+s0")["gradient_norm"] == pytest.approx(
        first_step(alone, "tuned+full+s0")["gradient_norm"], rel=1e-5
    )
    one, two = weights(alone, "tuned+full+s0"), weights(there, "tuned+full+s0")
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert all(
        same.equal(weights(there, "base+full+s0")[n]) for n, same in weights(alone, "base+full+s0").items()
    )

    # Changes are really submitted, and exactly their jobs run.
    changed = copy.deepcopy(study)
    changed["hrsa"]["groups"] = 10
    changed["evaluation"]["max_length"] = 28
    there.write(changed)
    moment, submitted = time.time(), there.submitted()
    there.run(*THROUGH_SLURM, "--", *TARGETS)
    assert there.submitted() > submitted
    assert there.logs_since(moment) == {"hrsa_linear", "figure_3", "evaluate", "collect_scores"}
    assert "Nothing to be done" in there.run(*THROUGH_SLURM, "--", *TARGETS)
