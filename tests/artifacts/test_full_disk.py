"""A full disk, quota or file size limit: one sentence, nothing half made, and on from there with more room."""

import errno
import resource
import sys

import numpy as np
import pytest

from realign.artifacts import disk
from realign.artifacts.command import Command, Output, UserError, execute
from realign.artifacts.disk import explain_full_disk, open_array
from realign.artifacts.store import WorkStore
from realign.study.base import Section

MB = 1 << 20


class NoSettings(Section):
    """A command without settings."""


COMMAND = Command(
    name="fill",
    help="Write two megabytes.",
    run=f"{__name__}:fill",
    settings=NoSettings,
    outputs={"data": Output("Bytes."), "more": Output("Bytes.")},
)


def fill(job):
    (job.scratch / "kept").write_bytes(b"kept")
    job.output("data").write_bytes(bytes(1000))
    with job.output("more").open("wb") as stream:
        stream.write(bytes(2 * MB))


@pytest.fixture
def small_files():
    """This process may write no file of more than a megabyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, hard))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x.npy"), "/tmp: the disk is full ("),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/tmp/x.npy"), "/tmp: the quota is used up. Delete"),
        (OSError(errno.EFBIG, "File too large", "/tmp/x.npy"), "ulimit -f) is reached. Raise the limit"),
        (OSError("3072000 requested and 742368 written"), "the disk is full"),  # numpy's tofile
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),  # safetensors
        (OSError("Can't write data (file write failed: errno = 28, error message = '...')"), "full"),  # h5py
        (RuntimeError("[enforce fail] file write failed"), "the disk is full"),  # torch.save
    ],
)
def test_every_way_to_say_it_becomes_one_sentence(error, words, tmp_path):
    sentence = explain_full_disk(error, tmp_path)
    assert words in sentence
    assert "run it again: finished work is not lost" in sentence
    assert "\n" not in sentence


def test_an_error_that_followed_from_a_full_disk_is_explained_by_it(tmp_path):
    error = ValueError("can't close the file")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    assert f"{tmp_path}: the disk is full" in explain_full_disk(error, tmp_path)


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError(errno.ENOENT, "gone", "x"), UserError("errno 28")]
)
def test_other_errors_are_left_alone(error, tmp_path):
    assert explain_full_disk(error, tmp_path) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="needs posix_fallocate")
def test_the_room_of_a_mapped_array_is_reserved(tmp_path):
    array = open_array(tmp_path / "x.npy", np.float32, (1000, 100))
    assert (tmp_path / "x.npy").stat().st_blocks * 512 >= 400_000  # a sparse file has no blocks yet
    array[7] = 7
    array.flush()
    assert np.load(tmp_path / "x.npy")[7].tolist() == [7] * 100


def test_a_mapped_array_that_has_no_room_is_refused_before_any_work(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="bytes needed") as caught:
        open_array(tmp_path / "x.npy", np.float32, (1000, 100))
    assert list(tmp_path.iterdir()) == []
    assert "400.1 kB needed for one file" in explain_full_disk(caught.value, tmp_path)


def test_a_file_that_has_no_room_is_refused_before_it_is_begun(tmp_path, small_files):
    with pytest.raises(OSError, match="2097152 bytes needed") as caught:
        disk.check_room(tmp_path / "x.h5", 2 * MB)
    assert (
        "2.1 MB needed for one file" in explain_full_disk(caught.value, tmp_path)
        or caught.value.errno == errno.EFBIG
    )
    disk.check_room(tmp_path / "x.h5", MB)
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_is_not_reserved_in_full_to_see_whether_it_has_room(tmp_path, monkeypatch):
    reserved = []
    monkeypatch.setattr(disk.os, "posix_fallocate", lambda _, start, size: reserved.append(size))
    monkeypatch.setattr(disk, "_free", lambda _: 10**12)
    disk.check_room(tmp_path / "x.h5", 10**11)
    assert reserved == [disk.TRIAL_BYTES]
    with pytest.raises(OSError, match=r"1000000000001 bytes needed") as caught:
        disk.check_room(tmp_path / "x.h5", 10**12 + 1)
    assert caught.value.errno == errno.ENOSPC
    assert len(reserved) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_command_without_room_leaves_nothing_half_made_and_goes_on_with_more(tmp_path, small_files):
    store, places = WorkStore(tmp_path / "store"), {n: tmp_path / n for n in ("data", "more")}
    with pytest.raises(UserError, match=r"ulimit -f\) is reached"):
        execute(COMMAND, NoSettings(), {}, places, store)
    work = next(store.root.glob("fill-*"))
    assert not any(place.exists() for place in places.values())
    assert not (work / "out").exists()
    assert (work / "scratch" / "kept").exists()
    small_files()
    execute(COMMAND, NoSettings(), {}, places, store)
    assert places["more"].stat().st_size == 2 * MB


def test_what_was_being_published_when_the_disk_was_full_is_taken_away(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "published" / "more"))

    store, places = WorkStore(tmp_path / "store"), {n: tmp_path / "published" / n for n in ("data", "more")}
    monkeypatch.setattr("realign.artifacts.store.os.utime", full)
    with pytest.raises(UserError, match="published: the disk is full"):
        execute(COMMAND, NoSettings(), {}, places, store)
    assert [p.name for p in places["more"].parent.iterdir() if p.name.startswith(".more")] == []
    monkeypatch.undo()
    execute(COMMAND, NoSettings(), {}, places, store)
    assert places["more"].stat().st_size == 2 * MB
