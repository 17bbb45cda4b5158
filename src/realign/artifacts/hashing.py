"""Content hashes of files, directories and settings: the identities that the work store uses."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def hash_json(value: Any) -> str:
    """The hash of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no free choice, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_tree(entries: Iterable[tuple[str, str]]) -> str:
    """The hash of a directory from (relative path, file hash) pairs, in any order."""
    digest = hashlib.sha256(b"tree\n")
    for name, file_hash in sorted(entries):
        digest.update(f"{name}\0{file_hash}\n".encode())
    return digest.hexdigest()


WORKFLOW_MARK = ".snakemake_timestamp"  # the workflow puts it into folders that its jobs made


def files_below(directory: Path) -> list[str]:
    """The relative POSIX paths of all files below a directory, sorted; the workflow's mark is no content."""
    files = (p for p in directory.rglob("*") if p.name != WORKFLOW_MARK and p.is_file())
    return sorted(p.relative_to(directory).as_posix() for p in files)
