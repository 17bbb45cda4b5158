"""Training pairs on each node's own disk.

Pairs are read at random, a few lines at a time. So where the recipe or the site names a local folder they
are copied there first, once a node.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from realign.artifacts.near import NearDisk
from realign.engine.distributed import World
from realign.training.index import UNPACKED, Source


@contextmanager
def brought_near(
    sources: Sequence[Source], folder: str | None, name: str, world: World
) -> Iterator[list[Source]]:
    """The sources as copies in a folder of this node while the block lasts; without one, as they are."""
    disk = NearDisk(name, folder, "hardware.local_data")
    own = disk.place
    if own is None:
        yield list(sources)
        return
    near = [Source(s.name, own / s.name / s.path.name, own / s.name / "index") for s in sources]
    if world.local_rank == 0:
        disk.make()
        for source, copy in zip(sources, near, strict=True):
            shutil.copytree(source.index, copy.index)
            if not (source.index / UNPACKED).exists():  # rows that were unpacked are read from there
                shutil.copyfile(source.path, copy.path)
    world.wait()
    try:
        yield near
    finally:
        disk.clear()
