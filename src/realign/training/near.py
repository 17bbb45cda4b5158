"""Training pairs on each node's own disk.

Pairs are read at random, a few lines at a time, which a shared file system answers slowly and its
other users dislike. So where the recipe names a local folder they are copied there first, once a node.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from realign.artifacts.command import UserError
from realign.engine.distributed import World
from realign.training.index import UNPACKED, Source


@contextmanager
def brought_near(
    sources: Sequence[Source], folder: str | None, name: str, world: World
) -> Iterator[list[Source]]:
    """The sources as copies in a folder of this node while the block lasts; without one, as they are."""
    if folder is None:
        yield list(sources)
        return
    own = _existing(folder) / f"realign-{name}"
    near = [Source(s.name, own / s.name / s.path.name, own / s.name / "index") for s in sources]
    if world.local_rank == 0:
        shutil.rmtree(own, ignore_errors=True)  # what a killed attempt left
        for source, copy in zip(sources, near, strict=True):
            shutil.copytree(source.index, copy.index)
            if not (source.index / UNPACKED).exists():  # rows that were unpacked are read from there
                shutil.copyfile(source.path, copy.path)
    world.wait()
    try:
        yield near
    finally:
        if world.local_rank == 0:
            shutil.rmtree(own, ignore_errors=True)


def _existing(folder: str) -> Path:
    place = Path(os.path.expandvars(folder))
    if not place.is_dir():
        raise UserError(f"hardware.local_data: {folder} is no folder on {os.uname().nodename}")
    return place
