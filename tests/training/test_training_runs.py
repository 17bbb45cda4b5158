"""Whole trainings through the command line: resumed, elastic, out of memory, with adapters, stopped."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from realign.artifacts.command import Interrupted
from realign.artifacts.manifest import make_manifest
from realign.seeds import derive_seed
from realign.text.pairs import read_pairs
from realign.training.batches import draw, hold_out, plan_epoch
from realign.training.validation import ndcg_at

PROMPT = "Instruct: Given words, find the text that holds them\nQuery: "
STEPS = 24


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Queries of three made-up words, found again in their positives among others."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randrange(2, 6))) for _ in range(60)]

    def passage(inside):
        before, after = draw.choices(words, k=draw.choice([1, 3, 8])), draw.choices(words, k=2)
        return " ".join([*before, *inside, *after])

    path = tmp_path_factory.mktemp("data") / "words.jsonl"
    with path.open("w") as stream:
        for _ in range(160):
            inside = draw.sample(words, 3)
            negatives = [passage(draw.sample(words, 3)) for _ in range(3)]
            row = {"query": [PROMPT, " ".join(inside)], "pos": [passage(inside)], "neg": negatives}
            stream.write(json.dumps(row) + "\n")
    return path


class Run:
    """One training in a folder of its own."""

    def __init__(self, place, backbone, dataset, **settings):
        self.place = place
        given = {
            "recipe.batches.size": 8,
            "recipe.batches.negatives": 2,
            "recipe.batches.steps": STEPS,
            "recipe.batches.query_tokens": 96,
            "recipe.batches.passage_tokens": 96,
            "recipe.validation.samples": 12,
            "recipe.validation.every": 10,
            "recipe.optimizer.learning_rate": 1e-3,
            "recipe.loss.temperature": 0.05,
            "recipe.hardware.token_budget": 512,
            "recipe.hardware.save_every": 3,
            "recipe.hardware.processes": 1,
        }
        flags = (given | settings).items()
        outputs = ("model", "checkpoints", "training-log", "tensorboard", "tidy")
        self.command = [
            *(sys.executable, "-m", "realign.cli", "train", "--store", str(place / "store")),
            *("--threads", "1"),
            *("--backbone", str(backbone), "--data", str(dataset)),
            *(word for name in outputs for word in (f"--{name}", str(place / name))),
            *(w for key, value in flags for w in (f"--{key.replace('_', '-')}", json.dumps(value))),
        ]

    def start(self):
        return subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True, env=os.environ)

    def finish(self, code=0):
        process = self.start()
        _, said = process.communicate(timeout=280)
        assert process.returncode == code, said
        return said

    def stop_at(self, step, how):
        """Start it and, once it has logged a step of its own beyond `step`, stop it; its code and words."""
        before = self.logged()
        process = self.start()
        while process.poll() is None and self.logged() <= max(step, before):
            time.sleep(0.005)
        if how == signal.SIGTERM:
            process.send_signal(how)
        else:
            os.kill(int((self.scratch / "worker.lock").read_text()), how)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

    @property
    def scratch(self):
        return next((self.place / "store").glob("train-*")) / "scratch"

    def logged(self):
        found = list((self.place / "store").glob("train-*/scratch/log.jsonl"))
        steps = [json.loads(line)["step"] for line in _lines(found[0])] if found else []
        return max(steps, default=0)

    def model(self):
        return make_manifest(self.place / "model").hash

    def weights(self):
        return load_file(self.place / "model" / "model.safetensors")

    def log(self):
        return [json.loads(line) for line in (self.place / "training-log").read_text().splitlines()]

    def losses(self):
        return [line["loss"] for line in self.log() if "loss" in line]


def _lines(path):
    text = path.read_text()
    return text[: text.rfind("\n") + 1].splitlines()


@pytest.fixture(scope="session")
def whole(tmp_path_factory, tiny_backbone, dataset):
    """A training that nobody disturbs, with a checkpoint declared on the way."""
    run = Run(tmp_path_factory.mktemp("whole"), tiny_backbone, dataset, **{"recipe.checkpoints": [4]})
    run.finish()
    return run


def test_a_training_learns_and_writes_what_it_promises(whole, tiny_backbone):
    log = whole.log()
    assert [line["step"] for line in log if "loss" in line] == list(range(1, STEPS + 1))
    scored = {line["step"]: line["val_ndcg_at_10"] for line in log if "val_ndcg_at_10" in line}
    assert list(scored) == [0, 10, 20, STEPS]
    assert sum(whole.losses()[-3:]) < sum(whole.losses()[:3])
    assert log[0]["data"]["batches"] == {"pure": 18, "mixed": 0, "dropped_samples": 4}
    assert log[0]["precision"] == "fp32"
    assert (whole.place / "checkpoints" / "step4" / "modules.json").exists()
    assert list((whole.place / "tensorboard").glob("events*"))
    assert all(0 <= line["padding_share"] < 0.5 for line in log if "loss" in line)


def test_the_tidy_table_holds_the_log(whole):
    import pandas as pd

    tidy = pd.read_parquet(whole.place / "tidy")
    assert {"study", "backbone", "recipe", "seed", "step", "metric", "value"} <= set(tidy)
    assert tidy[tidy.metric == "loss"].value.tolist() == pytest.approx(whole.losses())
    tokens = [line["tokens"] for line in whole.log() if "loss" in line]
    assert tidy[tidy.metric == "tokens"].value.tolist() == tokens
    order = int(tidy[tidy.metric == "batch_order"].value.item())
    assert f"{order:012x}" == whole.log()[0]["batch_order"]


SEED = derive_seed(0, "train", 0)  # of the study's seed 0 and the training's seed 0


def held_out_and_rest(rows):
    held = hold_out([len(rows)], 12, SEED)[0]
    return [rows[int(i)] for i in held], [rows[int(i)] for i in np.setdiff1d(np.arange(len(rows)), held)]


def test_what_is_exported_is_what_was_scored(whole, dataset):
    """sentence-transformers, with nothing of ours, finds what the training's own last score says."""
    from sentence_transformers import SentenceTransformer

    held, _ = held_out_and_rest(list(read_pairs(dataset)))
    drawn = [draw(row, 2, SEED, -1, number) for number, row in enumerate(held)]
    model = SentenceTransformer(str(whole.place / "model"), device="cpu")
    passages = list(dict.fromkeys(text for d in drawn for text in d.passages))
    scores = model.encode([d.query for d in drawn], prompt=PROMPT) @ model.encode(passages).T
    relevant = np.array([[p in row.positives for p in passages] for row in held])
    expected = [line for line in whole.log() if "val_ndcg_at_10" in line][-1]["val_ndcg_at_10"]
    assert ndcg_at(10, scores, relevant).mean() == pytest.approx(expected, abs=1e-6)


def test_the_first_loss_is_sentence_transformers_cached_loss(whole, tiny_backbone, dataset, tmp_path):
    """Same model, same batch: their cached loss in mini-batches says what our log says of step 1."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    from realign.embedder.export import export
    from realign.embedder.model import Embedder

    _, rest = held_out_and_rest(list(read_pairs(dataset)))
    samples = plan_epoch([len(rest)], 8, SEED).samples[0]
    drawn = [draw(rest[int(s)], 2, SEED, 0, int(s)) for s in samples]
    export(Embedder.load(tiny_backbone, device="cpu"), tmp_path / "untrained")
    model = SentenceTransformer(str(tmp_path / "untrained"), device="cpu").train()
    features = [model.preprocess([d.query for d in drawn], prompt=PROMPT)]
    features += [model.preprocess([d.passages[i] for d in drawn]) for i in range(3)]
    loss = CachedMultipleNegativesRankingLoss(model, scale=1 / 0.05, mini_batch_size=3)(features, None)
    assert whole.losses()[0] == pytest.approx(loss.item(), rel=1e-4)


def test_a_declared_checkpoint_is_the_embedder_of_a_shorter_way(whole, tmp_path):
    """It loads, differs from the last, and is published as an artifact of its own."""
    kept = whole.place / "checkpoints"
    command = [sys.executable, "-m", "realign.cli", "checkpoint", "--store", str(tmp_path / "store")]
    command += ["--checkpoints", str(kept), "--model", str(tmp_path / "model"), "--step"]
    subprocess.run([*command, "4"], check=True)
    assert make_manifest(tmp_path / "model") == make_manifest(kept / "step4")
    assert make_manifest(tmp_path / "model").hash != whole.model()
    failed = subprocess.run([*command, "5"], stderr=subprocess.PIPE, text=True, check=False)
    assert failed.returncode == 1
    assert "there: step4" in failed.stderr


def disturb(run, draw):
    """Ask it to leave once, kill it once, and let it finish."""
    code, said = run.stop_at(draw.randrange(1, STEPS // 3), signal.SIGTERM)
    assert code == Interrupted.exit_code, said
    assert "saved at step" in said
    code, said = run.stop_at(draw.randrange(STEPS // 2), signal.SIGKILL)
    assert code != 0
    assert not (run.place / "model").exists()
    run.finish()


@pytest.mark.timeout(1200)
def test_stopped_and_killed_and_resumed_is_never_stopped_bit_for_bit(whole, tmp_path, tiny_backbone, dataset):
    run = Run(tmp_path, tiny_backbone, dataset, **{"recipe.checkpoints": [4]})
    disturb(run, random.Random())
    assert run.model() == whole.model()
    assert run.losses() == whole.losses()
    assert make_manifest(run.place / "checkpoints").hash == make_manifest(whole.place / "checkpoints").hash


def resumed_as_never_stopped(place, backbone, dataset, settings):
    """One training left alone and one disturbed, which must end alike; gives the first."""
    runs = []
    for name in ("undisturbed", "disturbed"):
        (place / name).mkdir()
        runs.append(Run(place / name, backbone, dataset, **settings))
    undisturbed, disturbed = runs
    undisturbed.finish()
    disturb(disturbed, random.Random())
    assert disturbed.model() == undisturbed.model()
    return undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_half_precision_with_masters_resumes_bit_for_bit(tmp_path, tiny_backbone, dataset):
    more = {"recipe.precision": "bf16", "recipe.hardware.zero_stage": 1}
    undisturbed = resumed_as_never_stopped(tmp_path, tiny_backbone, dataset, more)
    assert undisturbed.losses()[-1] < undisturbed.losses()[0]


def close(one, other, limit):
    worst = max(((one[k] - other[k]).norm() / other[k].norm()).item() for k in other)
    assert worst < limit, worst


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stage", [*(pytest.param(s, marks=pytest.mark.long) for s in (0, 1)), 2, 3])
def test_resumed_bit_for_bit_on_two_processes_and_close_to_one(
    whole, tmp_path, tiny_backbone, dataset, stage
):
    more = {"recipe.hardware.processes": 2, "recipe.hardware.zero_stage": stage, "recipe.checkpoints": [4]}
    undisturbed = resumed_as_never_stopped(tmp_path, tiny_backbone, dataset, more)
    close(undisturbed.weights(), whole.weights(), 1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_goes_on_with_another_number_of_processes_and_stage(
    whole, tmp_path, tiny_backbone, dataset
):
    first = Run(tmp_path, tiny_backbone, dataset, **{"recipe.checkpoints": [4]})
    assert first.stop_at(4, signal.SIGTERM)[0] == Interrupted.exit_code
    # Three processes share no parameter of this model evenly.
    more = {"recipe.hardware.processes": 3, "recipe.hardware.zero_stage": 3, "recipe.checkpoints": [4]}
    second = Run(tmp_path, tiny_backbone, dataset, **more)
    assert "going on from step" in second.finish()
    close(second.weights(), whole.weights(), 1e-3)
    assert second.losses() == pytest.approx(whole.losses(), rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_recomputed_activations_give_the_same_embedder(whole, tmp_path, tiny_backbone, dataset):
    more = {"recipe.hardware.activation_checkpointing": True, "recipe.checkpoints": [4]}
    run = Run(tmp_path, tiny_backbone, dataset, **more)
    run.finish()
    assert run.losses() == pytest.approx(whole.losses(), rel=1e-4)


def test_a_deepspeed_configuration_of_ones_own_goes_before_ours(whole, tmp_path, tiny_backbone, dataset):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    run = Run(tmp_path, tiny_backbone, dataset, **{"recipe.checkpoints": [4]})
    run.command += ["--deepspeed", str(own)]
    run.finish()
    close(run.weights(), whole.weights(), 1e-3)

    # what it says does reach DeepSpeed, which knows no such stage
    own.write_text(json.dumps({"zero_optimization": {"stage": 7}}))
    assert "input_value=7" in run.finish(code=1)
    own.write_text("[1]")
    assert "holds no JSON object" in run.finish(code=1)


LONG = {"recipe.batches.query_tokens": 2048, "recipe.batches.passage_tokens": 2048}


@pytest.fixture
def long_texts(tmp_path):
    """Texts whose attention scores, held whole by the eager kernel, are tens of megabytes each."""
    draw, path = random.Random(0), tmp_path / "long.jsonl"
    text = lambda: "".join(draw.choices("abcdefgh ", k=1900))  # noqa: E731
    rows = [{"query": ["", text()], "pos": [text()], "neg": [text()]} for _ in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to a limit of data")
def test_out_of_memory_goes_on_with_half_the_tokens_to_the_same_embedder(tmp_path, tiny_backbone, long_texts):
    """The machine really has no more memory to give: the processes are held to a few GB of data."""
    more = {
        **LONG,
        "embedder.attn_implementation": "eager",
        "embedder.max_length": 2048,
        "recipe.batches.size": 4,
        "recipe.batches.negatives": 1,
        "recipe.batches.steps": 2,
        "recipe.validation.samples": 0,
        "recipe.hardware.zero_stage": 0,
    }
    backbone = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    places = {name: tmp_path / name for name in ("roomy", "narrow")}
    runs = {}
    for name, budget in (("roomy", 2048), ("narrow", 32768)):
        places[name].mkdir()
        more["recipe.hardware.token_budget"] = budget
        runs[name] = Run(places[name], backbone, long_texts, **more)
    runs["roomy"].finish()
    runs["narrow"].command = ["prlimit", "--data=2500000000", *runs["narrow"].command]
    said = runs["narrow"].finish()
    assert "out of memory" in said
    assert "the batch stays" in said
    assert runs["narrow"].losses() == pytest.approx(runs["roomy"].losses(), rel=1e-5)
    close(runs["narrow"].weights(), runs["roomy"].weights(), 1e-3)


def test_adapters_are_merged_and_leave_the_rest_alone(tmp_path, tiny_backbone, dataset):
    run = Run(tmp_path, tiny_backbone, dataset, **{"recipe.lora": {"rank": 4}, "recipe.batches.steps": 4})
    run.finish()
    before, after = load_file(tiny_backbone / "model.safetensors"), run.weights()
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)


def test_a_training_that_diverges_stops_and_says_so(tmp_path, tiny_backbone, dataset):
    run = Run(tmp_path, tiny_backbone, dataset, **{"recipe.optimizer.learning_rate": 1e30})
    said = run.finish(code=1)
    assert "the loss is nan" in said
    assert not (tmp_path / "model").exists()


def test_settings_that_cannot_be_are_refused_with_a_word(tmp_path, tiny_backbone, dataset):
    said = Run(tmp_path, tiny_backbone, dataset, **{"recipe.batches.size": 4096}).finish(code=1)
    assert "does not fill one batch of 4096" in said


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_training_on_a_gpu_resumes_and_is_the_cpu_s_within_rounding(
    tmp_path, tiny_backbone, dataset, stage, monkeypatch
):
    """bf16 with masters in fp32; on a GPU, sums have no fixed order, so bits are no promise."""
    more = {"recipe.hardware.zero_stage": stage, "recipe.batches.steps": 12, "recipe.checkpoints": [4]}
    places = {name: tmp_path / name for name in ("whole", "halted", "cpu")}
    for place in places.values():
        place.mkdir()
    whole, halted, cpu = (Run(place, tiny_backbone, dataset, **more) for place in places.values())
    whole.finish()
    assert halted.stop_at(4, signal.SIGTERM)[0] == Interrupted.exit_code
    halted.finish()
    assert halted.losses() == pytest.approx(whole.losses(), rel=1e-2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cpu.finish()
    assert whole.losses() == pytest.approx(cpu.losses(), rel=5e-2)


@pytest.fixture(scope="module")
def two_datasets(dataset, tmp_path_factory):
    """The rows in two files, with a teacher's scores and, in one of them, weights."""
    place = tmp_path_factory.mktemp("two")
    rows = [json.loads(line) for line in dataset.read_text().splitlines()]
    draw, files = random.Random(1), []
    for name, part in (("large", rows[:100]), ("small", rows[100:])):
        files.append(place / f"{name}.jsonl")
        for row in part:
            row |= {"pos_scores": [1.0], "neg_scores": [draw.random() for _ in row["neg"]]}
            row |= {"weight": draw.choice([0.5, 1, 2])} if name == "small" else {}
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in part))
    return files


# Options of the loss and of the sampling at once, each dataset with others.
OPTIONS = {
    "recipe.loss": {
        "temperature": 0.05,
        "directions": ["query_to_doc", "doc_to_doc"],
        "hardness_mode": "hard_negatives",
        "hardness_strength": 5.0,
        "guide": {"margin": 0.05},
        "mask_scope": "in_batch",
    },
    "recipe.dataset_losses": {
        "small": {
            "directions": ["query_to_doc"],
            "in_batch_negatives": False,
            "distillation": {"weight": 0.5},
        }
    },
    "recipe.batches.sampling_temperature": 2.0,
    "recipe.batches.weights": {"small": 1.5},
}


class OptionRun(Run):
    """A training with these options, guided by an embedder."""

    def __init__(self, place, backbone, files, guide, **more):
        settings = {name: value for name, value in OPTIONS.items() if name != "recipe.loss"}
        loss = {f"recipe.loss.{name}": value for name, value in OPTIONS["recipe.loss"].items()}
        super().__init__(place, backbone, files[0], **settings | loss | more)
        self.command.insert(self.command.index(str(files[0])) + 1, str(files[1]))
        self.command += ["--guide", str(guide)]


@pytest.fixture(scope="module")
def guide(tiny_backbone, tmp_path_factory):
    from realign.embedder.export import export
    from realign.embedder.model import Embedder

    place = tmp_path_factory.mktemp("guide") / "guide"
    export(Embedder.load(tiny_backbone, device="cpu"), place)
    return place


@pytest.mark.timeout(1200)
def test_options_of_loss_and_sampling_resume_bit_for_bit(tmp_path, tiny_backbone, two_datasets, guide):
    runs = []
    for name in ("undisturbed", "disturbed"):
        (tmp_path / name).mkdir()
        more = {"recipe.batches.steps": 12}
        runs.append(OptionRun(tmp_path / name, tiny_backbone, two_datasets, guide, **more))
    undisturbed, disturbed = runs
    undisturbed.finish()
    counts = undisturbed.log()[0]["data"]
    assert counts["batches"]["mixed"] == 0
    # 94 and 54 samples, whose roots are as 9.7 to 7.3, the latter half as often again
    assert [counts["datasets"][name]["batches"] for name in ("large", "small")] == [8, 10]
    assert any(line["masked"] > 0 for line in undisturbed.log() if "masked" in line)
    code, said = disturbed.stop_at(4, signal.SIGTERM)
    assert code == Interrupted.exit_code, said
    disturbed.finish()
    assert disturbed.model() == undisturbed.model()
    assert disturbed.losses() == undisturbed.losses()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("processes", "stage"), [(2, 1), (3, 3)])
def test_options_of_the_loss_go_on_with_other_processes_and_stages(
    tmp_path, tiny_backbone, two_datasets, guide, processes, stage
):
    runs = []
    for name in ("one", "more"):
        (tmp_path / name).mkdir()
        runs.append(OptionRun(tmp_path / name, tiny_backbone, two_datasets, guide))
    one, more = runs
    one.finish()
    assert more.stop_at(6, signal.SIGTERM)[0] == Interrupted.exit_code
    more.command += [
        "--recipe.hardware.processes",
        str(processes),
        "--recipe.hardware.zero-stage",
        str(stage),
    ]
    assert "going on from step" in more.finish()
    close(more.weights(), one.weights(), 1e-3)
    assert more.losses() == pytest.approx(one.losses(), rel=1e-3)


def test_a_guide_that_is_missing_or_not_used_is_said(tmp_path, tiny_backbone, two_datasets, guide):
    run = OptionRun(tmp_path, tiny_backbone, two_datasets, guide)
    run.command = run.command[: run.command.index("--guide")]
    assert "loss needs a guide model; give its folder as --guide" in run.finish(code=1)
    backbone = OptionRun(tmp_path, tiny_backbone, two_datasets, tiny_backbone)
    assert "no guide model; expected a sentence-transformers folder" in backbone.finish(code=1)
    plain = Run(tmp_path, tiny_backbone, two_datasets[0])
    plain.command += ["--guide", str(guide)]
    assert "the loss uses no guide model" in plain.finish(code=1)


def test_rows_without_scores_are_left_out_of_a_distillation(tmp_path, tiny_backbone, two_datasets, dataset):
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(two_datasets[0].read_text() + dataset.read_text())
    more = {"recipe.loss.distillation": {"weight": 0.5}, "recipe.batches.steps": 1}
    run = Run(tmp_path, tiny_backbone, mixed, **more)
    run.finish()
    assert run.log()[0]["data"]["datasets"]["mixed"] == {
        "usable": 100,
        "refused": {"no scores": 160},
        "batches": 11,
    }
