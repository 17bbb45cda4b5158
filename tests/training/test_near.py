"""Training pairs on a node's own disk."""

import pytest
import torch

from realign.artifacts.command import UserError
from realign.engine.distributed import World
from realign.training.index import UNPACKED, Source
from realign.training.near import brought_near


@pytest.fixture
def source(tmp_path):
    (tmp_path / "far/index").mkdir(parents=True)
    (tmp_path / "far/pairs.jsonl").write_text("a row\n")
    (tmp_path / "far/index/rows.npy").write_text("rows")
    return Source("nli", tmp_path / "far/pairs.jsonl", tmp_path / "far/index")


WORLD = World(0, 1, 0, torch.device("cpu"))


def test_pairs_are_copied_for_the_time_of_the_training(source, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    (tmp_path / "disk/realign-train-key/left").mkdir(parents=True)
    with brought_near([source], "$TMPDIR", "train-key", WORLD) as (near,):
        assert near.name == "nli"
        assert near.path.is_relative_to(tmp_path / "disk")
        assert near.path.read_text() == "a row\n"
        assert (near.index / "rows.npy").read_text() == "rows"
        assert not (tmp_path / "disk/realign-train-key/left").exists()
    assert list((tmp_path / "disk").iterdir()) == []


def test_the_site_may_name_the_folder_for_all_recipes(source, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("REALIGN_LOCAL_DATA", str(tmp_path / "disk"))
    with brought_near([source], None, "train-key", WORLD) as (near,):
        assert near.path.is_relative_to(tmp_path / "disk")


def test_without_a_folder_nothing_is_copied(source):
    with brought_near([source], None, "train-key", WORLD) as sources:
        assert sources == [source]


def test_a_folder_that_is_not_there_is_an_error_that_names_the_setting(source):
    with (
        pytest.raises(UserError, match=r"hardware\.local_data: \$NOWHERE"),
        brought_near([source], "$NOWHERE", "key", WORLD),
    ):
        pass


def test_of_data_in_another_form_only_its_rows_are_copied(tmp_path):
    (tmp_path / "scifact").mkdir()  # a BEIR folder
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / UNPACKED).write_text("a row\n")
    source = Source("scifact", tmp_path / "scifact", tmp_path / "index")
    (tmp_path / "disk").mkdir()
    with brought_near([source], str(tmp_path / "disk"), "key", WORLD) as (near,):
        assert (near.index / UNPACKED).read_text() == "a row\n"
        assert not near.path.exists()
