"""A file is there whole or not at all; a copy is a link where the file system has links."""

import os

import pytest

from realign.artifacts.files import link_or_copy, link_tree, write_text_whole, write_whole


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_cut_off_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "state.json"
    write_text_whole(path, "old")

    def write(stream):
        stream.write(b"ne")
        raise error

    with pytest.raises(type(error)):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "state.json"
    for text in ("a longer old text", "new: é\n"):
        write_text_whole(path, text)
    assert path.read_bytes() == "new: é\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_of_the_file_that_a_name_leads_to(tmp_path):
    (tmp_path / "weights").write_text("w")
    (tmp_path / "name").symlink_to("weights")
    link_or_copy(tmp_path / "name", tmp_path / "linked")
    assert (tmp_path / "linked").stat().st_ino == (tmp_path / "weights").stat().st_ino
    assert not (tmp_path / "linked").is_symlink()


def test_where_there_are_no_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "made/below").mkdir(parents=True)
    (tmp_path / "made/below/file").write_text("w")
    link_tree(tmp_path / "made", tmp_path / "copy")
    assert (tmp_path / "copy/below/file").read_text() == "w"
