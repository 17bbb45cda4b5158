"""Vectors kept on disk, so that a text that several tasks share is encoded once per model.

The shelf is a folder of segments. A segment is a pair of plain arrays, the keys of texts and their
vectors, in files that are named by the hash of their content: a damaged one is noticed, thrown
away and encoded again. With float16, vectors are rounded whether they come from the disk or not,
so that a score does not depend on what happened to be kept.
"""

import functools
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from realign.artifacts.command import UserError
from realign.artifacts.files import write_whole

log = logging.getLogger(__name__)

KEY_BYTES = 16
KEYS, VECTORS = ".keys.npy", ".vectors.npy"


def text_keys(prompt: str, texts: Sequence[str]) -> np.ndarray:
    """A key for each text behind a prompt."""
    head = hashlib.blake2b(prompt.encode() + b"\0", digest_size=KEY_BYTES)
    keys = np.empty((len(texts), KEY_BYTES), np.uint8)
    for i, text in enumerate(texts):
        one = head.copy()
        one.update(text.encode("utf-8", "surrogatepass"))
        keys[i] = np.frombuffer(one.digest(), np.uint8)
    return keys


class VectorShelf:
    """Vectors of one model by text, in segments on disk."""

    def __init__(self, folder: Path, dtype: str = "float32", limit_bytes: float = 0):
        self.folder, self.dtype, self.limit = folder, np.dtype(dtype), limit_bytes
        self._rows: dict[bytes, tuple[str, int]] = {}
        self._read: set[str] = set()
        self._open: dict[str, np.ndarray] = {}
        self._full = False

    def round(self, vectors: np.ndarray) -> np.ndarray:
        """The vectors as the shelf would give them back."""
        if self.dtype == np.float32:
            return vectors
        if np.abs(vectors).max(initial=0.0) > np.finfo(self.dtype).max:
            raise UserError("vectors are too large for float16; set evaluation.vectors.dtype to float32")
        return vectors.astype(self.dtype).astype(np.float32)

    def get(self, keys: np.ndarray) -> dict[int, np.ndarray]:
        """The kept vectors, by position among the keys."""
        self._refresh()
        found: dict[int, np.ndarray] = {}
        for i, key in enumerate(map(bytes, keys)):
            place = self._rows.get(key)
            if place is None:
                continue
            found[i] = self._open[place[0]][place[1]].astype(np.float32)
        return found

    def put(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """Keep vectors, as far as there is room."""
        if not len(keys):
            return
        size = keys.nbytes + vectors.size * self.dtype.itemsize
        if self._full or self.size + size > self.limit:
            if not self._full:
                log.info(
                    "the vectors' disk space is used up (%.1f GB); further ones are not kept",
                    self.limit / 1e9,
                )
            self._full = True
            return
        kept = np.ascontiguousarray(vectors, self.dtype)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = _digest(keys, kept)
        # keys last: a segment is only looked for by its keys
        for suffix, array in ((VECTORS, kept), (KEYS, keys)):
            save = functools.partial(np.save, arr=array, allow_pickle=False)
            write_whole(self.folder / f"{name}{suffix}", save)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(p.stat().st_size for p in self.folder.glob("*.npy")) if self.folder.is_dir() else 0

    def _refresh(self) -> None:
        """Take in segments that other jobs of the same model have added."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob(f"*{KEYS}")):
            name = path.name.removesuffix(KEYS)
            if name in self._read:
                continue
            self._read.add(name)
            keys = self._checked(name)
            if keys is not None:
                self._rows.update((bytes(key), (name, row)) for row, key in enumerate(keys))

    def _checked(self, name: str) -> np.ndarray | None:
        """A segment's keys, if its two files are what their name says; else it is thrown away."""
        paths = [self.folder / f"{name}{suffix}" for suffix in (KEYS, VECTORS)]
        try:
            keys = np.load(paths[0], allow_pickle=False)
            vectors = np.load(paths[1], mmap_mode="r", allow_pickle=False)
            if _digest(keys, vectors) != name:
                raise ValueError("its content is not what was written")
        except (OSError, ValueError, EOFError) as error:
            log.warning("kept vectors in %s are damaged (%s); they are encoded again", paths[0].parent, error)
            for path in paths:
                path.unlink(missing_ok=True)
            return None
        self._open[name] = vectors
        return keys


def _digest(keys: np.ndarray, vectors: np.ndarray) -> str:
    digest = hashlib.blake2b(f"{vectors.dtype}{vectors.shape}".encode(), digest_size=KEY_BYTES)
    digest.update(np.ascontiguousarray(keys).data)
    for start in range(0, len(vectors), 8192):
        digest.update(np.ascontiguousarray(vectors[start : start + 8192]).data)
    return digest.hexdigest()
