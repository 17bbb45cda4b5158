"""Files that are there whole or not at all, and copies that cost no space where they need not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a name of its own beside its place, and put it there once it is on the disk."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file so."""
    write_whole(path, lambda stream: stream.write(text.encode()))


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make `target` the same file as `source`: a link where the file system has them, else a copy."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def link_tree(source: Path, target: Path) -> None:
    """Make the folder `target` hold what `source` holds."""
    shutil.copytree(source, target, copy_function=link_or_copy)
