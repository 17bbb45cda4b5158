"""Room on disks: it is reserved before a file is mapped, and one sentence says where there is none."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realign.artifacts.errors import UserError

# Libraries that are not written in Python tell of an error in words of their own: Rust's "(os error 28)",
# HDF5's "errno = 28". NumPy's `tofile` gives no reason, but a write cut short has no other one.
_NUMBER = re.compile(r"(?:os error|errno)\s*=?\s*(\d+)", re.IGNORECASE)
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "requested and": errno.ENOSPC,
    "file write failed": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
}
_WHY = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the limit on the size of files (ulimit -f) is reached",
}
_WHAT_TO_DO = {
    errno.ENOSPC: "Make room there, or work in a folder on another disk",
    errno.EDQUOT: "Delete what you can spare, or work in a folder without this quota",
    errno.EFBIG: "Raise the limit",
}
TRIAL_BYTES = 1 << 26  # of a file that is reserved to see whether there is room at all


def open_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A new .npy file mapped into memory, whose room on the disk is reserved.

    A sparse file would be smaller than it says, and the process would die of a bus error (SIGBUS) in
    the middle of its work when the disk has no more room for a page.
    """
    import numpy as np

    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    try:
        _reserve(path, path.stat().st_size)
    except OSError:
        del array
        path.unlink()
        raise
    return array


def check_room(path: Path, size: int) -> None:
    """Raise an error that says how much is needed where there is no room for a file of that size.

    For HDF5 files: the library can't close one that it has no room for, and may die at the process's end.
    Only the beginning is reserved on trial, which shows a quota that is used up: where a file system can't
    reserve, the C library writes to each block instead, for hours in a file of terabytes.
    """
    if size > _free(path.absolute()):
        raise OSError(errno.ENOSPC, f"{size} bytes needed", str(path))
    try:
        path.touch()
        os.truncate(path, size)  # sparse; meets the limit on the size of files
        _reserve(path, min(size, TRIAL_BYTES))
    except OSError as error:
        raise OSError(error.errno, f"{size} bytes needed", str(path)) from None
    finally:
        path.unlink(missing_ok=True)


def _reserve(path: Path, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        raise OSError(error.errno, f"{size} bytes needed", str(path)) from None


@contextlib.contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn an error that means a full disk, quota or file size limit into a `UserError`.

    `folder` is where the work lies, for errors that name no file.
    """
    try:
        yield
    except Exception as error:
        if sentence := explain_full_disk(error, folder):
            raise UserError(sentence) from error
        raise


def explain_full_disk(error: BaseException | None, folder: Path) -> str:
    """What to say of an error, or of one that it followed from, if it means that; else nothing."""
    while error is not None:
        if number := _number(error):
            named = getattr(error, "filename", None)
            place = Path(os.fsdecode(named)).absolute().parent if named else _fullest(folder)
            needed = re.search(r"(\d+) bytes needed", str(error))
            facts = [f"{_size(_free(place))} free"] if number == errno.ENOSPC else []
            facts += [f"{_size(int(needed[1]))} needed for one file"] if needed else []
            more = f" ({', '.join(facts)})" if facts else ""
            return (
                f"{place}: {_WHY[number]}{more}. {_WHAT_TO_DO[number]}, and run it again: "
                "finished work is not lost"
            )
        error = error.__cause__ or error.__context__
    return ""


def _number(error: BaseException) -> int | None:
    number = error.errno if isinstance(error, OSError) else None
    if number is None and not isinstance(error, UserError):  # whose words are for people already
        text = str(error)
        found = _NUMBER.search(text)
        words = next((meant for words, meant in _WORDS.items() if words in text), None)
        number = int(found[1]) if found else words
    return number if number in _WHY else None


def _fullest(folder: Path) -> Path:
    """Of the places that a job writes to, the one with the least room."""
    return min((folder.absolute(), Path(tempfile.gettempdir())), key=_free)


def _free(place: Path) -> int:
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _size(count: int) -> str:
    power = min(3, max(0, len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.{1 if power else 0}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
