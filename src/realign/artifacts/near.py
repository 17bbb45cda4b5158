"""A node's own disk, for what a job reads at random or more than once.

A shared file system answers such reads slowly, and its other users dislike them. Where the nodes' own disks
are is a fact of the site, which names a folder there in the environment of its jobs.
"""

import logging
import os
import shutil
from pathlib import Path

from realign.artifacts.errors import UserError

log = logging.getLogger(__name__)
VARIABLE = "REALIGN_LOCAL_DATA"


class NearDisk:
    """One work's folder on this node's disk, made when it is first needed. Work is locked: nobody shares it.

    `setting` names the setting that `folder` comes from, which goes before the environment.
    """

    def __init__(self, work: str, folder: str | None = None, setting: str = VARIABLE):
        self._named = folder or os.environ.get(VARIABLE)
        self._setting = setting if folder else VARIABLE
        self._work = work
        self._made = False

    @property
    def place(self) -> Path | None:
        """Where the folder is, made or not; none where nothing names a disk."""
        if not self._named:
            return None
        disk = Path(os.path.expandvars(self._named))
        if not disk.is_dir():
            raise UserError(f"{self._setting}: {self._named} is no folder on {os.uname().nodename}")
        return disk / f"realign-{self._work}"

    def make(self) -> Path | None:
        """The folder, empty at first."""
        place = self.place
        if place is not None and not self._made:
            shutil.rmtree(place, ignore_errors=True)  # what a killed attempt left
            place.mkdir()
            self._made = True
        return place

    def bring(self, path: Path, name: str) -> Path:
        """A file's copy on this disk; the file itself where there is no disk, or no room on it."""
        place = self.make()
        if place is None or not self.has_room(path.stat().st_size, str(path)):
            return path
        return Path(shutil.copyfile(path, place / name))

    def has_room(self, size: int, what: str) -> bool:
        """Whether something of that size fits on this disk; if not, the log says that it stays elsewhere."""
        place = self.make()
        if place is None:
            return False
        free = shutil.disk_usage(place).free
        if size > free:
            log.warning("%s is not kept in %s: %d bytes, of which %d are free", what, place, size, free)
        return size <= free

    def clear(self) -> None:
        """Remove what was brought."""
        if self._made and (place := self.place) is not None:
            shutil.rmtree(place, ignore_errors=True)
