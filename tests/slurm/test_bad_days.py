"""Bad days on a real SLURM: each training ends with the very weights of the one that nothing befell."""

import copy
import json
import re

import pytest
from safetensors.torch import load_file

from micro_study import LOCAL, STUDY, THROUGH_SLURM, until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]

LIMIT_MINUTES = 1  # the shortest limit that SLURM knows
BEFALLEN = ("signalled", "cancelled", "lost", "hungry")
LONG, SHORT = "long", "short"
STEPS = 600
ENDLESS = 10**7
WARNED_MINUTES = 7  # the profile asks for a warning five minutes before, which comes up to one minute early


def study_of(names, recipes):
    """One backbone under many names, which no training looks at, trained by a recipe of so many steps each."""
    study = copy.deepcopy(STUDY)
    one, recipe = study["backbones"]["base"], study["recipes"].pop("full")
    study["backbones"] = {name: dict(one) for name in names}
    study["pairs"] = [
        {"left": a, "right": b, "kind": "control"} for a, b in zip(names[::2], names[1::2], strict=True)
    ]
    for name, steps in recipes.items():
        study["recipes"][name] = copy.deepcopy(recipe)
        study["recipes"][name]["batches"] |= {"steps": steps, "epochs": 400}
        study["recipes"][name]["hardware"]["save_every"] = 20
    study["resources"] = {"rules": {"train": {"threads": 1, "memory_gb": 2}}}
    return study


def model(place, name, recipe):
    return place.results / "embedders" / f"{name}+{recipe}+s0" / "model"


def trained(*pairs):
    return [f"results/micro/embedders/{name}+{recipe}+s0/model" for name, recipe in pairs]


def steps_of(place, name, recipe):
    lines = (model(place, name, recipe).parent / "log.jsonl").read_text().splitlines()
    return [line["step"] for line in map(json.loads, lines) if "loss" in line]


def log_of(place, name, recipe):
    log = place.results / "logs" / "train" / f"{name}+{recipe}+s0.log"
    return log.read_text() if log.exists() else ""


def same_weights(place, a, b, recipe):
    one, two = (load_file(model(place, name, recipe) / "model.safetensors") for name in (a, b))
    return one.keys() == two.keys() and all(bool((one[k] == two[k]).all()) for k in one)


def half_made(place):
    """Embedders with an output beside which another one lacks, and work that looks finished and is not."""
    folders = [p for p in (place.results / "embedders").iterdir() if p.is_dir()]
    wanted = {
        "model",
        "model.manifest.json",
        "checkpoints",
        "checkpoints.manifest.json",
        "log.jsonl",
        "tensorboard",
    }
    return [p.name for p in folders if (there := {q.name for q in p.iterdir()} & wanted) and there != wanted]


def seconds_a_step(place):
    """How long a step takes, by a short training here; for a training that outlasts its limit for sure."""
    place.run(*LOCAL, "--", *trained(("limited", SHORT)))
    lines = (model(place, "limited", SHORT).parent / "log.jsonl").read_text().splitlines()
    seconds = [line["seconds"] for line in map(json.loads, lines) if "seconds" in line]
    return sorted(seconds)[len(seconds) // 2]


def test_a_training_longer_than_its_limit_is_several_jobs_in_a_row(cluster, place):
    names = ("limited", "unlimited")
    step = seconds_a_step(place("probe", study_of(names, {SHORT: 40})))
    study = study_of(names, {LONG: round(85 / step)})
    study["recipes"][LONG]["hardware"]["save_every"] = 10**6  # only a signal makes it save
    study["resources"]["backbones"] = {"limited": {"train": {"hours": LIMIT_MINUTES / 60}}}
    there = place("there", study)
    # a warning at 300 s before a limit of 60 s would come before there is anything to save
    run = there.start(
        *THROUGH_SLURM, "--default-resources", "slurm_extra=''", "--", *trained(*((n, LONG) for n in names))
    )
    # read while it lasts: when a limit strikes between the work's end and the job's, the next job's log is short
    until(lambda: "going on from step" in log_of(there, "limited", LONG), "a training that goes on", 400)
    log = log_of(there, "limited", LONG)
    assert run.wait(600) == 0, there.said()[-6000:]
    assert log.count("train: working in") >= 2
    assert "asked to leave (SIGTERM)" in log
    assert log_of(there, "unlimited", LONG).count("train: working in") == 1
    assert same_weights(there, "limited", "unlimited", LONG)
    # no step is lost and none is told twice
    assert steps_of(there, "limited", LONG) == steps_of(there, "unlimited", LONG)
    assert half_made(there) == []


@pytest.fixture
def warned(place):
    """A training without end, which nothing but the warning that the profile asks for ends; in its own run."""
    study = study_of(("base", "other"), {LONG: ENDLESS})
    study["recipes"][LONG]["batches"]["epochs"] = ENDLESS
    study["recipes"][LONG]["hardware"]["save_every"] = ENDLESS
    study["resources"]["rules"]["train"]["hours"] = WARNED_MINUTES / 60
    there = place("warned", study)
    run = there.start(*THROUGH_SLURM, "--retries", "0", "--", *trained(("base", LONG)))
    yield there, run
    run.kill()


@pytest.mark.long
def test_what_befalls_a_job_is_survived_or_told(cluster, place, warned):
    names = (*BEFALLEN, "twofold", "undisturbed", "blind", "other")
    study = study_of(names, {SHORT: STEPS})
    study["resources"]["backbones"] = {
        "hungry": {"train": {"memory_gb": 0.45}},
        "lost": {"train": {"partition": "gpu"}},  # a node of its own, to lose
        "twofold": {"train": {"nodes": 2}},
        "blind": {"train": {"partition": "gpu", "gpus": 1}},  # a GPU that no driver stands behind
    }
    there = place("there", study)
    run = there.start(
        *THROUGH_SLURM, "--", *trained(*((n, SHORT) for n in (*BEFALLEN, "twofold", "undisturbed")))
    )

    def lose(job):
        node = cluster.node_of(job)
        cluster.kill_node(node)
        return node

    blows = {
        "signalled": lambda job: cluster.ask("scancel", "--signal=USR1", job),
        "twofold": lambda job: cluster.ask("scancel", "--signal=USR1", job),
        "cancelled": lambda job: cluster.ask("scancel", job),
        "lost": lose,
    }
    try:
        befell = strike_each(cluster, there, run, blows)
        lost, node = befell["lost"]
        until(lambda: lost not in cluster.jobs("RUNNING"), "SLURM to miss the node", 180)
        cluster.restart_node(node)
        assert run.wait(600) == 0, there.said()[-6000:]
    finally:
        run.kill()

    for name in BEFALLEN:
        assert same_weights(there, name, "undisturbed", SHORT), name
        assert steps_of(there, name, SHORT) == list(range(1, STEPS + 1)), name
    assert steps_of(there, "twofold", SHORT) == list(range(1, STEPS + 1))
    twofold = log_of(there, "twofold", SHORT)
    assert twofold.count("2 processes on 2 nodes") == 2
    assert twofold.count("going on from step") == 1
    assert "asked to leave (SIGUSR1)" in twofold
    assert half_made(there) == []
    for job, _ in befell.values():
        assert f"SLURM-job '{job}' failed" in there.said()
    assert "asked to leave (SIGUSR1)" in log_of(there, "signalled", SHORT)
    hungry = log_of(there, "hungry", SHORT)
    assert "train, job hungry+short+s0" in hungry
    assert "killed for using more memory than its limit of" in hungry
    assert "resources.rules.train.memory_gb" in hungry

    # A GPU that was asked for and is not to be seen: the job does not train without it, and is told.
    there.run(*THROUGH_SLURM, "--retries", "0", "--", *trained(("blind", SHORT)), well=False)
    told = there.status()
    assert "train(backbone=blind, recipe=short, seed=0)" in told
    assert "1 GPU asked for, and no GPU to be seen" in told
    assert "CUDA_VISIBLE_DEVICES is '" in told
    assert "change: resources.backbones.blind.train.gpus" in told
    assert "train: working in" not in log_of(there, "blind", SHORT)

    # The warning before a time limit reaches the training, which saves and leaves.
    elsewhere, run = warned
    assert run.wait(WARNED_MINUTES * 60) != 0
    log = log_of(elsewhere, "base", LONG)
    assert "asked to leave (SIGUSR1)" in log
    assert has_saved(elsewhere, "base", LONG)


def strike_each(cluster, place, run, blows):
    """Strike each training once it has saved something; its job, and what the blow returned."""
    befell, waiting = {}, dict(blows)

    def strike():
        assert run.poll() is None, place.said()[-6000:]
        for name in [*waiting]:
            job = cluster.running(f"{name}_{SHORT}")
            if job and has_saved(place, name):
                befell[name] = (job, waiting.pop(name)(job))
        return not waiting

    until(strike, "trainings that have saved", 400)
    return befell


def has_saved(place, name, recipe=SHORT):
    works = re.findall(r"train: working in (\S+)", log_of(place, name, recipe))
    return bool(works) and any((place.folder / works[-1] / "scratch" / "checkpoints").glob("step-*"))
