"""What a job reads more than once lies on the node's own disk for as long as the job works."""

import shutil
from collections import namedtuple

import pytest

from realign.artifacts import command as commands
from realign.artifacts.command import Command, Input, Job, Output, UserError, execute
from realign.artifacts.near import VARIABLE
from realign.artifacts.store import WorkStore
from realign.study.base import Section

READ = []


class Settings(Section):
    pass


def run(job: Job[Settings]) -> None:
    path = job.near("source")
    READ.append(path)
    job.output("copy").write_text(path.read_text())
    if "fails" in path.read_text():
        raise UserError("it fails")


COMMAND = Command(
    "toy", "A toy.", f"{__name__}:run", Settings, {"source": Input("Text.")}, {"copy": Output("Text.")}
)


@pytest.fixture
def work(tmp_path, monkeypatch):
    READ.clear()
    monkeypatch.setattr(commands, "_function", lambda reference: run)
    monkeypatch.setattr(Command, "code", "c0de")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "disk"))
    (tmp_path / "disk").mkdir()
    source, copy = tmp_path / "source.txt", tmp_path / "copy.txt"
    source.write_text("words")

    def go():
        execute(COMMAND, Settings(), {"source": source}, {"copy": copy}, WorkStore(tmp_path / ".work"))
        assert copy.read_text() == source.read_text()
        return READ[-1]

    go.source, go.disk = source, tmp_path / "disk"
    return go


def test_an_input_is_read_from_the_nodes_own_disk_which_is_empty_afterwards(work):
    read = work()
    assert read.is_relative_to(work.disk)
    assert list(work.disk.iterdir()) == []


def test_a_job_that_fails_leaves_nothing_on_the_disk(work):
    work.source.write_text("this fails")
    with pytest.raises(UserError, match="it fails"):
        work()
    assert READ[-1].is_relative_to(work.disk)
    assert list(work.disk.iterdir()) == []


def test_without_a_disk_or_room_on_it_an_input_is_read_where_it_is(work, monkeypatch, caplog):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 6, 3))
    assert work() == work.source
    assert "5 bytes, of which 3 are free" in caplog.text
    monkeypatch.delenv(VARIABLE)
    work.source.write_text("other words")
    assert work() == work.source


def test_a_disk_that_a_node_lacks_is_an_error_that_names_the_variable(work):
    work.disk.rmdir()
    with pytest.raises(UserError, match=f"{VARIABLE}: .*disk is no folder on "):
        work()
