import json

import pytest
import torch

from realign.artifacts.command import UserError
from realign.engine.checkpoints import Checkpoints
from realign.engine.distributed import World


def save(store, step, value=None):
    return store.save(
        step, {"w": torch.full((3,), float(step if value is None else value))}, {"lr": step / 10}
    )


def test_latest_is_the_newest_and_reads_back(tmp_path):
    store = Checkpoints(tmp_path)
    assert store.latest() is None
    for step in (1, 2, 10):
        save(store, step)
    found = store.latest()
    assert found.step == 10
    assert found.state == {"lr": 1.0}
    assert torch.equal(found.tensors()["w"], torch.full((3,), 10.0))


def test_only_the_last_ones_are_kept(tmp_path):
    store = Checkpoints(tmp_path, keep=2)
    for step in range(5):
        save(store, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000003", "step-000000004"]


def spoil_tensors(folder):
    file = folder / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def cut_tensors(folder):
    file = folder / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def cut_state(folder):
    file = folder / "state.json"
    file.write_text(file.read_text()[:20])


def lose_state(folder):
    (folder / "state.json").unlink()


def other_version(folder):
    file = folder / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))


@pytest.mark.parametrize("harm", [spoil_tensors, cut_tensors, cut_state, lose_state, other_version])
def test_a_spoiled_checkpoint_is_passed_over_loudly(tmp_path, caplog, harm):
    store = Checkpoints(tmp_path)
    save(store, 1)
    harm(save(store, 2).folder)
    with caplog.at_level("WARNING"):
        assert store.latest().step == 1
    assert "step-000000002" in caplog.text


def test_an_unfinished_checkpoint_is_no_checkpoint(tmp_path):
    store = Checkpoints(tmp_path)
    save(store, 1).folder.rename(tmp_path / ".writing-000000001")
    assert store.latest() is None
    save(store, 1)  # and does not stand in the way
    assert store.latest().step == 1


def test_saving_a_step_again_replaces_it(tmp_path):
    store = Checkpoints(tmp_path)
    save(store, 1)
    save(store, 1, 7)
    assert store.latest().tensors()["w"][0] == 7


class Second(World):
    """The second of two processes, whose first found a whole checkpoint of step `first`."""

    first = 4

    def wait(self):
        pass

    def gather_objects(self, thing):
        return [self.first, thing]

    def largest(self, number):
        return number


SECOND = Second(1, 2, 1, torch.device("cpu"))


def test_what_another_process_checked_is_not_read_again(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    save(store, 4)
    monkeypatch.setattr("realign.engine.checkpoints.hash_file", None)
    found = store.agreed(SECOND)
    assert (found.step, found.state) == (4, {"lr": 0.4})
    assert torch.equal(found.tensors()["w"], torch.full((3,), 4.0))


def test_a_checkpoint_that_not_all_processes_see_is_an_error(tmp_path, monkeypatch):
    save(Checkpoints(tmp_path), 3)
    with pytest.raises(UserError, match="not all processes see the checkpoint of step 4"):
        Checkpoints(tmp_path).agreed(SECOND)
    monkeypatch.setattr(Second, "first", None)
    assert Checkpoints(tmp_path).agreed(SECOND) is None


def test_a_process_waits_without_a_limit_while_the_first_checks(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(Second, "wait", lambda world: done.append("wait"))
    monkeypatch.setattr(Second, "gather_objects", lambda world, thing: done.append("gather") or [None, thing])
    Checkpoints(tmp_path).agreed(SECOND)
    assert done == ["wait", "gather"]
