"""A judge's answers on disk, one line each as it comes, so that nothing is asked twice.

Answers lie under all that decides them: the judge's identity, and a digest of what it was asked. A
killed job leaves whole lines but for the last, which is not read.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realign.artifacts.files import write_text_whole
from realign.artifacts.hashing import canonical_json, hash_json

Label = bool | None  # whether a passage answers its query; None where the judge could not be understood


class Answers:
    """The answers of one judge about one dataset."""

    def __init__(self, root: Path, identity: dict[str, Any], dataset: str):
        folder = root / f"answers-{hash_json(identity)[:24]}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "identity.json").is_file():
            write_text_whole(folder / "identity.json", canonical_json(identity) + "\n")
        self.path = folder / f"{dataset}.jsonl"
        self._lock = threading.Lock()
        self._held: dict[str, Label] = {}

    @contextlib.contextmanager
    def mine(self) -> Iterator["Answers"]:
        """The answers, to read and add to; another job about the same dataset waits for its turn."""
        with self.path.open("a+b") as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX)
            stream.seek(0)
            content = stream.read()
            whole, _, cut = content.rpartition(b"\n")
            if cut:  # of a job that was killed
                stream.truncate(len(content) - len(cut))
            self._held = {row["key"]: row["answers"] for row in map(json.loads, whole.splitlines())}
            self._stream = stream
            yield self

    def get(self, key: str) -> Label:
        """The answer under a key that is there."""
        return self._held[key]

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def add(self, key: str, label: Label) -> None:
        """Keep an answer."""
        line = json.dumps({"key": key, "answers": label}) + "\n"
        with self._lock:
            os.write(self._stream.fileno(), line.encode())
            self._held[key] = label


def question_key(*texts: str) -> str:
    """A digest of what a judge is asked."""
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
