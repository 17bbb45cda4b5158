import contextlib
import json
import math
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import ndcg_score

from realign.artifacts.command import UserError
from realign.engine.distributed import World, shares
from realign.engine.launch import OutOfMemory
from realign.engine.loop import TrainingStopped, learning_rate, stop_unless_finite
from realign.engine.steplog import read_steps
from realign.names import EmbedderId
from realign.study.embedder import EmbedderSettings
from realign.study.recipe import Batches, Hardware, Optimizer, Recipe, Safety, Train
from realign.training import train as train_command
from realign.training.log import TrainingLog
from realign.training.record import write_tidy
from realign.training.safety import SafetyChecks
from realign.training.step import mean_cosine
from realign.training.train import dataset_name
from realign.training.uses import named_datasets
from realign.training.validation import ndcg_at
from realign.training.worker import memory_gb

ALONE = World(0, 1, 0, torch.device("cpu"))


@pytest.mark.parametrize(("more", "differ"), [(0.0, False), (1e-14, False), (2**-10, True)])
def test_parameters_differ_by_more_than_the_order_of_a_sum(more, differ):
    class Two(World):
        def gather_objects(self, sums):
            return [sums, [value + more for value in sums]]

    checks = SafetyChecks(Safety(), Two(0, 2, 0, torch.device("cpu")), warmup=0)
    model = torch.nn.Linear(1000, 1, bias=False)
    with pytest.raises(TrainingStopped) if differ else contextlib.nullcontext():
        checks.compare_parameters(1, model)


def test_a_dataset_of_weight_0_need_not_be_given():
    recipe = Recipe(
        datasets=("nli", "squad"),
        batches={"weights": {"nli": 0, "squad": 2}},
        dataset_losses={"nli": {"temperature": 0.1}},
    )
    assert named_datasets(recipe) == {"squad"}
    assert recipe.trained_on(["nli", "squad", "other"]) == {"squad"}


def test_the_papers_schedule():
    how = Optimizer(learning_rate=2e-5, schedule="cosine", warmup=0.03)
    rates = [learning_rate(how, step, 782) for step in range(782)]
    assert np.argmax(rates) == 24  # the paper's warm-up
    assert rates[24] == 2e-5
    assert 0 < rates[0] < rates[23] < 2e-5
    assert rates[-1] < 1e-9 * 2e-5 + 2e-9
    assert learning_rate(how, 24 + 379, 782) == pytest.approx(1e-5)


@pytest.mark.parametrize(("schedule", "last"), [("linear", 0.1), ("constant", 1.0)])
def test_other_schedules(schedule, last):
    how = Optimizer(learning_rate=1.0, schedule=schedule, warmup=0.0)
    assert learning_rate(how, 0, 10) == 1.0
    assert learning_rate(how, 9, 10) == pytest.approx(last)


def test_ndcg_is_scikit_learns():
    random = np.random.default_rng(0)
    scores = random.normal(size=(30, 40))
    relevant = random.random((30, 40)) < 0.1
    relevant[:, 0] = True
    found = ndcg_at(10, scores, relevant)
    expected = [ndcg_score([r.astype(float)], [s], k=10) for r, s in zip(relevant, scores, strict=True)]
    assert found == pytest.approx(expected)


def test_ndcg_of_few_passages_and_of_none_that_fits():
    assert ndcg_at(10, np.array([[3.0, 2.0]]), np.array([[False, True]]))[0] == pytest.approx(
        1 / math.log2(3)
    )
    assert ndcg_at(10, np.array([[3.0, 2.0]]), np.array([[False, False]]))[0] == 0


def test_mean_cosine():
    torch.manual_seed(0)
    v = torch.nn.functional.normalize(torch.randn(6, 5), dim=1)
    pairs = [v[i] @ v[j] for i in range(6) for j in range(6) if i != j]
    assert mean_cosine(v) == pytest.approx(float(sum(pairs) / len(pairs)), abs=1e-6)
    assert mean_cosine(torch.ones(3, 4)) == pytest.approx(1)


@pytest.mark.parametrize(("count", "processes"), [(8, 3), (2, 3), (7, 1), (0, 2), (9, 3)])
def test_shares_cover_everything_once_and_evenly(count, processes):
    parts = [range(count)[part] for part in shares(count, processes)]
    assert [i for part in parts for i in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_training_stops_on_nan_and_on_disagreement():
    checks = SafetyChecks(Safety(), ALONE, warmup=0)
    checks.check_step(1, [1.0, 1.0 + 1e-6], [1, 1], 0.1)
    with pytest.raises(TrainingStopped, match="step 2: the loss is nan"):
        checks.check_step(2, [float("nan")], [1], 0.1)
    with pytest.raises(TrainingStopped, match="different batches"):
        checks.check_step(3, [1.0, 1.0], [1, 2], 0.1)
    with pytest.raises(TrainingStopped, match="disagree on the loss"):
        checks.check_step(4, [1.0, 1.1], [1, 1], 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_training_stops_on_what_a_step_left_broken(value):
    stop_unless_finite(3, "gradient's norm", 1.0)
    stop_unless_finite(3, "gradient's norm", None)  # DeepSpeed does not tell it
    with pytest.raises(TrainingStopped, match="step 3: the gradient's norm is"):
        stop_unless_finite(3, "gradient's norm", value)


def test_training_stops_on_collapse_only_when_it_lasts_and_after_the_warm_up():
    checks = SafetyChecks(Safety(collapse_cosine=0.99, collapse_patience=3), ALONE, warmup=5)
    for step in range(6):
        checks.check_step(step, [1.0], [1], 0.999)
    with pytest.raises(TrainingStopped, match=r"collapsed to a mean cosine of 0\.9990"):
        checks.check_step(6, [1.0], [1], 0.999)
    checks = SafetyChecks(Safety(collapse_cosine=0.99, collapse_patience=3), ALONE, warmup=0)
    for step in range(1, 20):
        checks.check_step(step, [1.0], [1], 0.999 if step % 3 else 0.5)


def test_a_log_that_goes_on_holds_each_step_once(tmp_path):
    path = tmp_path / "log.jsonl"
    log = TrainingLog(path, tmp_path / "events", None, "x", "k", resumed=0)
    for step in range(1, 6):
        log.write(step, loss=float(step))
    log.close()
    path.write_text(path.read_text() + '{"step": 6, "lo')  # cut short by a kill
    log = TrainingLog(path, tmp_path / "events", None, "x", "k", resumed=3)
    log.write(4, loss=0.4)
    log.close()
    assert [(line["step"], line["loss"]) for line in read_steps(path)] == [(1, 1), (2, 2), (3, 3), (4, 0.4)]
    assert list((tmp_path / "events").iterdir())


class FakeWandb:
    """Stands in for the package: notes what it is asked."""

    def __init__(self):
        self.started, self.logged, self.finished = {}, [], False

    def init(self, **given):
        self.started = given
        return self

    def log(self, numbers, step):
        self.logged.append((step, numbers))

    def finish(self):
        self.finished = True


def test_wandb_gets_every_number_in_a_run_of_the_trainings_own(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    log = TrainingLog(tmp_path / "log.jsonl", tmp_path / "events", "demo", "tiny-base+full+s0", "train-1f", 0)
    log.write(0, batch_order="ab")
    log.write(1, loss=2.0, data={"no": "number"})
    log.close()
    assert wandb.started == {
        "project": "demo",
        "name": "tiny-base+full+s0",
        "id": "train-1f",
        "resume": "allow",
    }
    assert wandb.logged == [(1, {"loss": 2.0})]
    assert wandb.finished


def test_wandb_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="wandb cannot be imported"):
        TrainingLog(tmp_path / "log.jsonl", tmp_path / "events", "demo", "x", "k", 0)


def test_hardware_is_no_part_of_a_trainings_identity():
    one = Train(recipe=Recipe(hardware=Hardware(token_budget=64, zero_stage=3)))
    assert one.as_slice() == Train().as_slice()
    assert "hardware" not in Recipe().as_slice()
    assert Train(recipe=Recipe(checkpoints=(3,))).as_slice() != Train().as_slice()


def test_a_training_is_identified_by_the_lengths_that_its_texts_are_cut_at():
    order = Train(embedder=EmbedderSettings(max_length=77), recipe=Recipe(batches=Batches(passage_tokens=9)))
    batches = order.as_slice()["recipe"]["batches"]
    assert (batches["query_tokens"], batches["passage_tokens"]) == (77, 9)
    assert Train.model_validate(order.as_slice()).as_slice() == order.as_slice()


def test_hardware_reads_back_from_its_flags():
    from realign.artifacts.arguments import build_parser, read_request
    from realign.training.commands import TRAIN

    hardware = Hardware(processes=2, token_budget=77, zero_stage=3, reduce_once=True, wandb_project="a b;c")
    import shlex

    words = shlex.split(hardware.flags(nodes=4))
    needed = ["--backbone", "b", "--data", "d", "--model", "m", "--checkpoints", "c"]
    needed += ["--training-log", "l", "--tidy", "t"]
    found = read_request(TRAIN, build_parser(TRAIN).parse_args([*needed, *words])).settings.recipe.hardware
    assert found == hardware.model_copy(update={"nodes": 4})


@pytest.mark.parametrize("steps", [(3, 2), (2, 2), (0, 1)])
def test_checkpoints_are_steps_in_rising_order(steps):
    with pytest.raises(ValueError, match="rising order"):
        Recipe(checkpoints=steps)


def test_a_datasets_name(tmp_path):
    assert dataset_name(tmp_path / "mined" / "nli" / "pairs.jsonl") == "nli"
    assert dataset_name(tmp_path / "quora.jsonl.gz") == "quora"


class Machine:
    """Stands in for the launcher: has memory for chunks of so many tokens."""

    def __init__(self, memory):
        self.memory, self.budgets = memory, []

    def __call__(self, module, spec, *_):
        self.budgets.append(spec["token_budget"])
        if spec["token_budget"] > self.memory:
            raise OutOfMemory("no room")


def test_out_of_memory_halves_the_token_budget_until_it_fits_and_says_so(tmp_path, monkeypatch, caplog):
    machine = Machine(memory=1100)
    monkeypatch.setattr(train_command, "launch", machine)
    order = Train(recipe=Recipe(hardware=Hardware(token_budget=4096, processes=1)))
    (tmp_path / "checkpoints" / "step-000000120").mkdir(parents=True)
    train_command.train({}, order, tmp_path, 1)
    assert machine.budgets == [4096, 2048, 1024]
    assert "going on from step 120 with a token budget of 1024" in caplog.text
    (tmp_path / "attempts.json").unlink()
    train_command.train({}, order, tmp_path, 1)  # it is remembered for the next attempt
    assert machine.budgets[3:] == [1024]


def test_out_of_memory_with_a_single_text_is_an_error_that_says_what_helps(tmp_path, monkeypatch):
    monkeypatch.setattr(train_command, "launch", Machine(memory=10))
    order = Train(recipe=Recipe(hardware=Hardware(token_budget=1024, processes=1)))
    with pytest.raises(UserError, match=r"single text of 512 tokens.*activation_checkpointing"):
        train_command.train({}, order, tmp_path, 1)


def test_an_attempt_that_gained_nothing_is_not_repeated_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(train_command, "launch", Machine(memory=10**9))
    order = Train(recipe=Recipe(hardware=Hardware(processes=1)))
    train_command.train({}, order, tmp_path, 1)
    train_command.train({}, order, tmp_path, 1)  # from the very start it may be tried again
    (tmp_path / "checkpoints" / "step-000000100").mkdir(parents=True)
    train_command.train({}, order, tmp_path, 1)
    train_command.train({}, order, tmp_path, 1)  # a crash is forgiven once
    with pytest.raises(UserError, match="two attempts went on from step 100 and gained nothing"):
        train_command.train({}, order, tmp_path, 1)
    train_command.train({}, order, tmp_path, 1)  # with more time, say


def test_an_attempt_with_more_memory_is_no_repetition(tmp_path, monkeypatch):
    monkeypatch.setattr(train_command, "launch", Machine(memory=10**9))
    order = Train(recipe=Recipe(hardware=Hardware(processes=1)))
    (tmp_path / "checkpoints" / "step-000000100").mkdir(parents=True)
    for memory in ("8000", "12000", "18000", "18000"):
        monkeypatch.setenv("SLURM_MEM_PER_NODE", memory)
        train_command.train({}, order, tmp_path, 1)
    with pytest.raises(UserError, match="two attempts went on from step 100 and gained nothing"):
        train_command.train({}, order, tmp_path, 1)


@pytest.mark.parametrize("left", ["", '{"cou', "null", "[]"])
@pytest.mark.parametrize("note", ["token_budget.json", "attempts.json"])
def test_a_note_that_was_cut_off_is_as_none(tmp_path, monkeypatch, note, left):
    machine = Machine(memory=1100)
    monkeypatch.setattr(train_command, "launch", machine)
    order = Train(recipe=Recipe(hardware=Hardware(token_budget=2048, processes=1)))
    (tmp_path / "checkpoints" / "step-000000100").mkdir(parents=True)
    (tmp_path / note).write_text(left)
    train_command.train({}, order, tmp_path, 1)
    assert machine.budgets == [2048, 1024]
    assert json.loads((tmp_path / "token_budget.json").read_text()) == 1024
    assert json.loads((tmp_path / "attempts.json").read_text())["count"] == 1


def test_the_log_tells_what_a_gpu_has_reserved_beside_what_tensors_fill(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 30 * 2**30)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 41 * 2**30)
    facts = memory_gb(torch.device("cuda", 0))
    assert facts == {"memory_gb": 30.0, "reserved_gb": 41.0}
    write_tidy(tmp_path / "t.parquet", [{"step": 1, **facts}], "study", EmbedderId("b", "r", 0))
    table = pq.read_table(tmp_path / "t.parquet").to_pydict()
    assert dict(zip(table["metric"], table["value"], strict=True)) == facts
    assert memory_gb(torch.device("cpu")).keys() == {"memory_gb"}
