"""A teacher's vectors, of which each distinct text is encoded once, whoever asks for it.

All jobs of a study that have the same teacher share one folder. A job first writes down, under the
folder's lock, which texts it will encode, leaving out what is there and what a living job has
already claimed; then it encodes shard by shard. A killed job finds its plan again and goes on with
the first missing shard, so the same texts go through the teacher in the same batches.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from realign.artifacts.disk import open_array
from realign.artifacts.files import write_text_whole, write_whole
from realign.artifacts.hashing import canonical_json, hash_json
from realign.engine.progress import Progress
from realign.mining.teachers import Side, Teacher
from realign.vectors.store import Keys, VectorStore, text_keys

log = logging.getLogger(__name__)

SHARD_TEXTS = 4096


class VectorCache:
    """The vectors of one teacher on one side, on disk."""

    def __init__(self, root: Path, teacher: Teacher, side: Side):
        identity = teacher.identity(side)
        self.folder = root / f"vectors-{hash_json(identity)[:24]}"
        self.store = VectorStore(self.folder)
        self.teacher, self.side = teacher, side
        (self.folder / "plans").mkdir(parents=True, exist_ok=True)
        about = self.folder / "identity.json"
        if not about.is_file():
            write_text_whole(about, canonical_json(identity) + "\n")

    def fill(self, texts: Sequence[str], owner: str) -> int:
        """Encode what is missing of these texts; returns how many this job encoded.

        `owner` names the job: the same name finds the plan of a run that was killed.
        """
        keys = text_keys(texts)
        if not len(self.store.missing(keys)):
            return 0
        place = {key: i for i, key in reversed(list(enumerate(keys.tolist())))}
        encoded = 0
        while True:
            with self._claim(keys, owner) as plan:
                encoded += self._encode(plan, place, texts)
            if not len(self.store.missing(keys)):
                return encoded
            self._wait_for_others()

    def gather(self, texts: Sequence[str], path: Path) -> np.ndarray:
        """The vectors of texts, one below the other in a file, mapped into memory."""
        target, found = None, np.zeros(len(texts), bool)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        for places, vectors in self.store.find(text_keys(texts)):
            if target is None:
                target = open_array(beside, np.float32, (len(texts), vectors.shape[1]))
            target[places], found[places] = vectors, True
        if target is None or not found.all():
            raise RuntimeError(f"{self.folder} lacks vectors that were just written there")
        target.flush()
        del target
        beside.replace(path)
        return np.load(path, mmap_mode="r")

    @contextlib.contextmanager
    def _claim(self, keys: Keys, owner: str) -> Iterator[Keys]:
        """This job's plan, locked while it is worked off, so that others see that somebody lives."""
        plan = self.folder / "plans" / f"{owner}.npy"
        with contextlib.ExitStack() as stack:
            with _locked(self.folder / "lock"):
                stack.enter_context(_locked(_lock_of(plan)))
                if not plan.is_file():
                    mine = self.store.missing(keys)
                    claimed = [np.load(p) for p in self._living(plan)]
                    if claimed:
                        mine = mine[~np.isin(mine, np.concatenate(claimed))]
                    write_whole(plan, lambda stream: np.save(stream, mine))
            yield np.load(plan)
            plan.unlink()

    def _living(self, own: Path | None = None) -> list[Path]:
        """The plans that some other process is working off."""
        return [p for p in sorted(self.folder.glob("plans/*.npy")) if p != own and _is_locked(_lock_of(p))]

    def _wait_for_others(self) -> None:
        """Wait until a job that has claimed something is done or dead."""
        for plan in self._living()[:1]:
            log.info("waiting for vectors that another job is making")
            with _locked(_lock_of(plan)):
                return

    def _encode(self, plan: Keys, place: dict[bytes, int], texts: Sequence[str]) -> int:
        """Work a plan off, shard by shard; what a killed run left there is not done again."""
        missing = np.isin(plan, self.store.missing(plan))
        with Progress(f"teacher, {self.side}", len(plan), "texts") as told:
            for start in range(0, len(plan), SHARD_TEXTS):
                here = slice(start, start + SHARD_TEXTS)
                keys = plan[here][missing[here]]
                if len(keys):
                    chosen = [texts[place[key]] for key in keys.tolist()]
                    self.store.add(keys, self.teacher.encode(chosen, self.side))
                told.advance(len(plan[here]))
        return int(missing.sum())


def _lock_of(plan: Path) -> Path:
    # a file of its own: closing a file that was read would let go of the lock on it
    return plan.with_suffix(".lock")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX)
        yield


def _is_locked(path: Path) -> bool:
    with path.open("ab") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
