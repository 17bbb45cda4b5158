"""What was found out once about some bytes, kept in the user's cache folder.

An entry's key is a hash of everything that what was found follows from, and the file is named by the
Python and the code that found it, so nothing here is ever out of date; no time stamp is trusted.
A file that is damaged, or can't be read or written, merely means finding out anew.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realign.artifacts.files import write_text_whole

KEPT = 2000  # entries, a few times what a checkout has; those that were used least recently go first


class Memo:
    """Entries by key, for one piece of code and one Python."""

    def __init__(self, name: str, code: bytes):
        maker = hashlib.sha256(f"{sys.version}\0".encode() + code).hexdigest()[:16]
        self._name = f"{name}-{maker}.json"
        self._kept: dict[str, Any] | None = None
        self._used: dict[str, Any] = {}
        self._is_new = False

    @property
    def path(self) -> Path:
        """Where the entries lie."""
        folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (never raises)
        return Path(folder, "realign", self._name)

    def of(self, key: str, find: Callable[[], Any]) -> Any:
        """A JSON value that was found out before, or is now."""
        if self._kept is None:
            self._kept = self._read()
        if key not in self._used:
            self._is_new |= key not in self._kept
            self._used[key] = self._kept[key] if key in self._kept else find()
        return self._used[key]

    def save(self) -> None:
        """Keep what is new; of processes that save at once, one is heard."""
        if not self._is_new:
            return
        entries = {k: v for k, v in (self._kept or {}).items() if k not in self._used} | self._used
        text = json.dumps(dict(list(entries.items())[-KEPT:]))
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text_whole(self.path, f"{_hash(text)}\n{text}")
        self._is_new = False

    def _read(self) -> dict[str, Any]:
        try:
            seal, _, text = self.path.read_text(encoding="utf-8").partition("\n")
            return json.loads(text) if seal == _hash(text) else {}
        except (OSError, ValueError):
            return {}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
