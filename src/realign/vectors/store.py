"""Vectors kept on disk by text, so that a text is encoded once, whoever asks for it.

A store is a folder of segments. A segment is two plain arrays, the keys of texts and their vectors, in
files that are named by the hash of their content: a damaged one is noticed and thrown away. Keys are
written last, so a segment is whole or not there. Several processes may read and write one store.
"""

import functools
import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from realign.artifacts.command import UserError
from realign.artifacts.files import write_whole

log = logging.getLogger(__name__)

KEYS, VECTORS = ".keys.npy", ".vectors.npy"
KEY = "S32"  # a text's digest, 32 hexadecimal digits

Keys = np.ndarray


def text_keys(texts: Sequence[str], prompt: str = "") -> Keys:
    """A digest for each text behind a prompt."""
    head = hashlib.blake2b(prompt.encode() + b"\0", digest_size=16)
    digests = []
    for text in texts:
        digest = head.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        digests.append(digest.hexdigest())
    return np.array(digests, KEY)


class VectorStore:
    """Vectors by key, in a type that may round them, up to a limit of disk space."""

    def __init__(self, folder: Path, dtype: str = "float32", limit_bytes: float = math.inf):
        self.folder, self.dtype, self.limit = folder, np.dtype(dtype), limit_bytes
        self._keys: dict[str, tuple[Keys, np.ndarray]] = {}  # of whole segments: sorted keys, their rows
        self._full = False

    def round(self, vectors: np.ndarray) -> np.ndarray:
        """The vectors as the store would give them back, so that no result depends on what was kept."""
        if self.dtype == np.float32:
            return vectors
        if np.abs(vectors).max(initial=0.0) > np.finfo(self.dtype).max:
            raise UserError("vectors are too large for float16; set evaluation.vectors.dtype to float32")
        return vectors.astype(self.dtype).astype(np.float32)

    def add(self, keys: Keys, vectors: np.ndarray) -> None:
        """Keep vectors as a segment, if there is room."""
        kept = np.ascontiguousarray(vectors, self.dtype)
        if self._full or not len(keys):
            return
        if self.limit < math.inf and self.size + keys.nbytes + kept.nbytes > self.limit:
            log.info("%.1f GB of vectors are kept, which is the limit; others are not", self.limit / 1e9)
            self._full = True
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = _digest(keys, kept)
        for suffix, array in ((VECTORS, kept), (KEYS, keys)):
            save = functools.partial(np.save, arr=array, allow_pickle=False)
            write_whole(self.folder / f"{name}{suffix}", save)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(p.stat().st_size for p in self.folder.glob("*.npy"))

    def missing(self, keys: Keys) -> Keys:
        """The distinct keys that are not there, in the order given."""
        absent = np.ones(len(keys), bool)
        for _, places, _ in self._hits(keys):
            absent[places] = False
        first = np.unique(keys, return_index=True)[1]
        return keys[np.sort(first[absent[first]])]

    def find(self, keys: Keys) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What is there of these keys: places among them, with the vectors (places, width) in float32."""
        for name, places, rows in self._hits(keys):
            vectors = np.load(self.folder / f"{name}{VECTORS}", mmap_mode="r")
            yield places, vectors[rows].astype(np.float32)

    def _hits(self, keys: Keys) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Each segment that has some of the keys: their places among them, by the rows that hold them."""
        for name, (present, rows) in self._segments().items():
            at = np.minimum(np.searchsorted(present, keys), len(present) - 1)
            places = np.flatnonzero(present[at] == keys)
            if len(places):
                order = np.argsort(rows[at[places]], kind="stable")  # read from front to back
                yield name, places[order], rows[at[places[order]]]

    def _segments(self) -> dict[str, tuple[Keys, np.ndarray]]:
        """The segments' sorted keys and their rows, by name.

        Those that were added since, by any process, are read and checked.
        """
        for path in sorted(self.folder.glob(f"*{KEYS}")):
            name = path.name.removesuffix(KEYS)
            if name not in self._keys and (keys := self._checked(name)) is not None:
                rows = np.argsort(keys, kind="stable")
                # A damaged one may be made again, under the same name.
                self._keys[name] = keys[rows], rows
        return self._keys

    def _checked(self, name: str) -> Keys | None:
        """A segment's keys, if its two files are what their name says; else it is thrown away."""
        paths = [self.folder / f"{name}{suffix}" for suffix in (KEYS, VECTORS)]
        try:
            keys = np.load(paths[0], allow_pickle=False)
            if _digest(keys, np.load(paths[1], mmap_mode="r", allow_pickle=False)) == name:
                return keys
            reason: object = "their content is not what was written"
        except (OSError, ValueError, EOFError) as error:
            reason = error
        log.warning("kept vectors in %s are damaged (%s); they are encoded again", self.folder, reason)
        for path in paths:
            path.unlink(missing_ok=True)
        return None


def _digest(keys: Keys, vectors: np.ndarray) -> str:
    digest = hashlib.blake2b(f"{vectors.dtype}{vectors.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(keys).data)
    for start in range(0, len(vectors), 8192):
        digest.update(np.ascontiguousarray(vectors[start : start + 8192]).data)
    return digest.hexdigest()
