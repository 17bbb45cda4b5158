"""Reading files of states: blocks are the layer, and what is no such file is refused."""

import h5py
import pytest

from realign.artifacts.command import UserError
from realign.states.reader import StatesFile


def test_blocks_are_the_layer(tmp_path, extract, backbone, corpus):
    path = extract(tmp_path, backbone, corpus, tokens={"count": 120})[0]
    with StatesFile(path) as states:
        whole = states.read(2)
        parts = list(states.blocks(2, size=50))
        assert [len(p) for p in parts] == [50, 50, 20]
        assert (sum(p.sum() for p in parts)) == pytest.approx(whole.sum())
        assert (states.read(2, 10, 20) == whole[10:20]).all()
        assert (states.read(2, 10, 20, torch=True).numpy() == whole[10:20]).all()
        with pytest.raises(IndexError):
            states.read(4)
        for text in (-1, len(states.text_tokens)):
            with pytest.raises(IndexError, match=f"text {text} of"):
                states.rows_of(text)
        with pytest.raises(ValueError, match="one row at least"):
            list(states.blocks(0, size=-1))


def test_two_texts_of_one_name_and_a_folder_without_a_model_are_refused(tmp_path, extract, backbone, corpus):
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"id": "x", "text": "one"}\n{"id": "x", "text": "two"}\n')
    with pytest.raises(UserError, match="several texts have the id 'x'"):
        extract(tmp_path / "a", backbone, twice)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no model's directory"):
        extract(tmp_path / "b", tmp_path / "empty", corpus)


def test_what_is_no_states_file_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(UserError, match="not an HDF5 file"):
        StatesFile(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as content:
        content.attrs["format"] = "something"
    with pytest.raises(UserError, match="something"):
        StatesFile(tmp_path / "other.h5")
    with pytest.raises(UserError, match="no such file"):
        StatesFile(tmp_path / "none.h5")
