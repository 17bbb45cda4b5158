"""A derivation that is interrupted and run again ends with the weights of one that was not, to the bit."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from backbones_help import MICRO, make, pretraining, same_weights, weights, write_lines

from realign.artifacts.command import Interrupted, UserError
from realign.backbones import derive, loop, rollout
from realign.engine.distributed import World
from realign.engine.launch import OutOfMemory
from realign.engine.loop import TrainingStopped
from realign.study.backbones import Sft

STEPS = 7
TUNING = {"optimisation": {"steps": STEPS, "learning_rate": 0.01}, "hardware": MICRO["hardware"]}
RECIPES = {
    "pretrain": MICRO | TUNING,
    "sft": TUNING | {"batch": 4, "length": 64},
    "rlvr": TUNING
    | {"batch": 4, "updates": 2, "kl": 0.05, "rewards": {"format": 0.1, "correct": 1.0},
       "rollouts": {"group": 4, "max_new_tokens": 8}},
}  # fmt: skip


def inputs_of(recipe: str, corpora: Path, base: Path) -> dict[str, Path]:
    if recipe == "pretrain":
        return pretraining(corpora)
    return {"base": base, "problems": corpora / "train.jsonl"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, corpora, base):
    """Each recipe's result of a run that nothing disturbed, made when first asked for."""
    made: dict[str, Path] = {}

    def result(recipe: str) -> Path:
        if recipe not in made:
            folder = tmp_path_factory.mktemp(recipe)
            made[recipe] = make(recipe, RECIPES[recipe], inputs_of(recipe, corpora, base), folder)
        return made[recipe]

    return result


def told(history: Path) -> list[dict[str, float]]:
    """A history without what the clock says."""
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


class Crash(Exception):
    pass


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("how", ["asked to leave", "killed"])
def test_interrupted_at_a_random_step(recipe, how, uninterrupted, corpora, base, tmp_path, monkeypatch):
    whole = uninterrupted(recipe)
    at = random.randint(1, STEPS - 1)  # another step in each run of the tests
    update, count = loop.Learner.update, {"steps": 0}

    def disturbed(learner, chunks, rate):
        facts = update(learner, chunks, rate)
        count["steps"] += 1
        if count["steps"] == at:
            if how == "killed":
                raise Crash
            os.kill(os.getpid(), signal.SIGTERM)
        return facts

    monkeypatch.setattr(loop.Learner, "update", disturbed)
    inputs = inputs_of(recipe, corpora, base)
    with pytest.raises(Crash if how == "killed" else Interrupted):
        make(recipe, RECIPES[recipe], inputs, tmp_path)
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    make(recipe, RECIPES[recipe], inputs, tmp_path)
    assert same_weights(whole / "model", tmp_path / "model"), f"interrupted after update {at}"
    assert told(tmp_path / "history") == told(whole / "history")
    assert [line["step"] for line in told(tmp_path / "history")] == list(range(1, STEPS + 1))


@pytest.fixture
def updates(monkeypatch):
    """How many steps are computed; a callable that raises after a number of them."""
    update, counted = loop.Learner.update, {"steps": 0, "crash": 0}

    def count(learner, chunks, rate):
        counted["steps"] += 1
        if counted["steps"] == counted["crash"]:
            raise Crash
        return update(learner, chunks, rate)

    monkeypatch.setattr(loop.Learner, "update", count)
    return counted


def steps_of(counted) -> int:
    """The steps that were computed since the last question."""
    found, counted["steps"] = counted["steps"], 0
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_checkpoint_is_a_run_that_stopped_there(recipe, uninterrupted, corpora, base, tmp_path, updates):
    """Whether it goes on from the whole run's trail, from a checkpoint before it, or from nothing."""
    settings, inputs, store = RECIPES[recipe], inputs_of(recipe, corpora, base), tmp_path / "store"
    plain, passes = uninterrupted(recipe), settings.get("updates", 1)
    steps_of(updates)
    whole = make(recipe, settings | {"checkpoints": [2, 5]}, inputs, tmp_path / "whole", store)
    assert same_weights(whole / "model", plain / "model")
    assert told(whole / "history") == told(plain / "history")
    assert steps_of(updates) == 7 * passes
    for stop, computed in ((2, 0), (5, 0), (4, 2)):
        stopped = settings | {"stop": stop}
        alone = make(recipe, stopped, inputs, tmp_path / f"alone{stop}")
        assert steps_of(updates) == stop * passes
        quick = make(recipe, stopped, inputs, tmp_path / f"quick{stop}", store)
        assert steps_of(updates) == computed * passes
        assert same_weights(alone / "model", quick / "model")
        assert told(alone / "history") == told(quick / "history") == told(plain / "history")[:stop]
        if recipe != "rlvr":  # a micro policy is rewarded in its first steps alone
            assert not same_weights(quick / "model", plain / "model")
    last = make(recipe, settings | {"stop": 7}, inputs, tmp_path / "last", store)
    assert same_weights(last / "model", plain / "model")


def test_a_run_that_was_killed_leaves_the_same_trail(uninterrupted, corpora, base, tmp_path, updates):
    inputs, store = inputs_of("sft", corpora, base), tmp_path / "store"
    plain, settings = uninterrupted("sft"), RECIPES["sft"] | {"checkpoints": [2, 5]}
    updates.update(steps=0, crash=5)
    with pytest.raises(Crash):
        make("sft", settings, inputs, tmp_path / "whole", store)
    updates.update(steps=0, crash=0)
    whole = make("sft", settings, inputs, tmp_path / "whole", store)
    assert steps_of(updates) == 4  # from the checkpoint after the third step
    assert same_weights(whole / "model", plain / "model")
    quick = make("sft", RECIPES["sft"] | {"stop": 5}, inputs, tmp_path / "quick", store)
    assert steps_of(updates) == 0
    alone = make("sft", RECIPES["sft"] | {"stop": 5}, inputs, tmp_path / "alone")
    assert same_weights(quick / "model", alone / "model")


def test_another_seed_gives_another_model(uninterrupted, corpora, base, tmp_path):
    recipe = RECIPES["sft"] | {"optimisation": RECIPES["sft"]["optimisation"] | {"seed": 1}}
    make("sft", recipe, inputs_of("sft", corpora, base), tmp_path)
    assert not same_weights(tmp_path / "model", uninterrupted("sft") / "model")


def test_hardware_is_no_part_of_the_work(uninterrupted, corpora, base, tmp_path, caplog):
    """Smaller micro-batches find the work already done: how it is computed is not what it is."""
    whole = uninterrupted("sft")
    recipe = RECIPES["sft"] | {"hardware": {"micro_batch": 1}}
    caplog.set_level("INFO", "realign")
    make("sft", recipe, inputs_of("sft", corpora, base), tmp_path, store=whole / ".work")
    assert "already made" in caplog.text
    assert same_weights(tmp_path / "model", whole / "model")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_sigkill_of_the_real_command(recipe, uninterrupted, corpora, base, tmp_path):
    """`kill -9` somewhere in the middle, then the same command again."""
    whole = uninterrupted(recipe)
    flags = [
        f"--{name}={path}" for name, path in [*inputs_of(recipe, corpora, base).items(),
        ("model", tmp_path / "model"), ("history", tmp_path / "history"), ("store", tmp_path / "store")]
    ]  # fmt: skip
    command = [sys.executable, "-m", "realign.cli", recipe, "--threads=1", *flags]
    command += ["--settings", json.dumps(RECIPES[recipe])]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not any((tmp_path / "store").glob("*/scratch/checkpoints/step-*")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "model").exists()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert same_weights(whole / "model", tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "stage"),
    [
        *(("pretrain", stage) for stage in (2, 3)),
        *(pytest.param("pretrain", stage, marks=pytest.mark.long) for stage in (0, 1)),
        *(pytest.param("sft", stage, marks=pytest.mark.long) for stage in (0, 1, 2, 3)),
    ],
)
def test_two_processes_learn_what_one_does(recipe, stage, uninterrupted, corpora, base, tmp_path):
    """Up to rounding, at every ZeRO stage; answers of GRPO are drawn by process, so it is left out."""
    settings = RECIPES[recipe] | {"hardware": {"processes": 2, "micro_batch": 1, "zero_stage": stage}}
    make(recipe, settings, inputs_of(recipe, corpora, base), tmp_path)
    one, two = weights(uninterrupted(recipe) / "model"), weights(tmp_path / "model")
    for name in one:
        assert torch.allclose(one[name], two[name], atol=2e-4), name


@pytest.mark.slow
def test_zero_3_learns_the_same_in_a_process_of_its_own(uninterrupted, corpora, base, tmp_path):
    settings = RECIPES["sft"] | {"hardware": MICRO["hardware"] | {"zero_stage": 3}}
    make("sft", settings, inputs_of("sft", corpora, base), tmp_path)
    one, other = weights(uninterrupted("sft") / "model"), weights(tmp_path / "model")
    assert all(torch.allclose(one[name], other[name], atol=2e-4) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_grpo_on_two_processes_and_after_a_kill(stage, corpora, base, tmp_path):
    """Two processes sample, reward and learn together, and an interrupted run ends the same."""
    problems = write_lines(
        tmp_path / "train.jsonl", [json.loads(x) for x in (corpora / "train.jsonl").open()]
    )
    inputs = {"base": base, "problems": problems}
    settings = RECIPES["rlvr"] | {"hardware": {"processes": 2, "checkpoint_every": 2, "zero_stage": stage}}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    make("rlvr", settings, inputs, whole)
    command = [sys.executable, "-m", "realign.cli", "rlvr", f"--base={base}", f"--problems={problems}"]
    command += [f"--model={killed}/model", f"--history={killed}/history", f"--store={killed}/store"]
    command += ["--threads=2", "--settings", json.dumps(settings)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not any((killed / "store").glob("*/scratch/checkpoints/step-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == Interrupted.exit_code
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert same_weights(whole / "model", killed / "model")


def test_a_loss_that_is_no_number_stops_the_run(corpora, base, tmp_path, monkeypatch):
    from realign.backbones import steps

    real = steps._language_loss
    monkeypatch.setattr(steps, "_language_loss", lambda *a: real(*a) * float("nan"))
    with pytest.raises(TrainingStopped, match="step 1: the loss is nan"):
        make("sft", RECIPES["sft"], inputs_of("sft", corpora, base), tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_derivation_goes_on_with_smaller_chunks_when_memory_runs_out(
    stage, uninterrupted, corpora, base, tmp_path, monkeypatch, caplog
):
    from realign.backbones import steps

    undisturbed = uninterrupted("sft")
    real, seen = steps._language_loss, []
    engines, parameters = weakref.WeakValueDictionary(), weakref.WeakValueDictionary()

    def short_of_memory(blocks, targets, model):
        seen.append(len(blocks))
        engines[id(model)] = model
        parameters.update({id(p): p for p in model.parameters()})
        assert len(engines) == 1, "the engine that ran out of memory still holds it"
        assert len(parameters) == len(list(model.parameters()))
        if len(blocks) > 1 and len(seen) > 8:  # in the fifth step, after a checkpoint of the third
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
        return real(blocks, targets, model)

    monkeypatch.setattr(steps, "_language_loss", short_of_memory)
    recipe = RECIPES["sft"] | {"hardware": MICRO["hardware"] | {"zero_stage": stage}}
    make("sft", recipe, inputs_of("sft", corpora, base), tmp_path)
    assert "hardware.micro_batch 1" in caplog.text
    assert seen == [2] * 9 + [1] * 4 * (STEPS - 3)
    gc.collect()
    assert not engines
    assert not parameters
    one, other = weights(undisturbed / "model"), weights(tmp_path / "model")
    assert all(torch.allclose(one[name], other[name], atol=2e-4) for name in one)


def test_zero_3_tries_again_in_a_new_process(corpora, base, tmp_path, monkeypatch):
    tried = []

    def short_of_memory(module, spec, *_, **__):
        tried.append((module, spec["settings"]["hardware"]["micro_batch"]))
        raise OutOfMemory("CUDA out of memory")

    monkeypatch.setattr(derive, "launch", short_of_memory)
    recipe = RECIPES["sft"] | {"hardware": {"micro_batch": 2, "zero_stage": 3}}
    with pytest.raises(UserError, match="gradient_checkpointing"):
        make("sft", recipe, inputs_of("sft", corpora, base), tmp_path)
    assert tried == [("realign.backbones.sft", 2), ("realign.backbones.sft", 1)]


def test_a_derivation_stops_when_one_sequence_is_too_much(corpora, base, tmp_path, monkeypatch):
    from realign.backbones import steps

    def short_of_memory(*_):
        raise MemoryError  # as Python itself raises it, without a word

    monkeypatch.setattr(steps, "_language_loss", short_of_memory)
    with pytest.raises(UserError, match="gradient_checkpointing"):
        make("sft", RECIPES["sft"], inputs_of("sft", corpora, base), tmp_path)


def test_a_lack_of_memory_while_sampling_names_the_setting_that_helps(
    corpora, base, tmp_path, monkeypatch, caplog
):
    calls = []

    def short_of_memory(*_):
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rollout.Sampler, "_side_by_side", short_of_memory)
    with pytest.raises(UserError, match=r"while sampling; lower rollouts\.batch"):
        make("rlvr", RECIPES["rlvr"], inputs_of("rlvr", corpora, base), tmp_path)
    assert len(calls) == 1
    assert "micro_batch" not in caplog.text


@pytest.mark.parametrize(("gpus", "used"), [(0, 1), (1, 1), (3, 2), (4, 4), (6, 4)])
def test_as_many_gpus_are_used_as_share_a_batch_evenly(monkeypatch, caplog, gpus, used):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert derive._processes(Sft(batch=32)) == used
    assert ("cannot share a batch of 32" in caplog.text) == (used < gpus)


def test_the_first_process_alone_keeps_the_finished_weights():
    learner = object.__new__(loop.Learner)
    learner.engine = SimpleNamespace(module=torch.nn.Linear(3, 2))
    for rank, names in ((0, {"weight", "bias"}), (1, set())):
        learner.world = World(rank, 2, rank, torch.device("cpu"))
        assert learner.finished()[1].keys() == names
