"""The small file beside a large artifact that stands for its content.

`model.manifest.json` lies beside `model/`. It holds the format version, the content hash and each
file's size and hash, and nothing else, so identical content gives identical bytes. The workflow's
edges point at manifests: they are small enough to be compared by content.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from realign.artifacts.hashing import canonical_json, files_below, hash_file, hash_tree

VERSION = 1
# Data is written before its manifest, but the workflow touches both when their job is done, in any order.
SLACK_SECONDS = 2.0


class ManifestError(Exception):
    """An artifact that is not what its manifest says."""


@dataclass(frozen=True)
class Manifest:
    """What an artifact holds: one file (its name is then '.') or a directory of files."""

    hash: str
    files: Mapping[str, tuple[int, str]]

    def dump(self) -> str:
        """The manifest's bytes, a function of the content alone."""
        files = {name: {"size": size, "sha256": sha} for name, (size, sha) in self.files.items()}
        return canonical_json({"version": VERSION, "hash": self.hash, "files": files}) + "\n"

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return sum(size for size, _ in self.files.values())

    def first_difference(self, artifact: Path, written: float | None = None) -> str | None:
        """Why the artifact cannot be what this manifest describes, judged by names and sizes.

        With the time at which it was described, files that were touched since are read and compared too:
        an edit in place may keep the size, and reaches every hard link.
        """
        for name, (size, sha) in self.files.items():
            path = artifact / name if name != "." else artifact
            if not path.is_file():
                return f"{path} is missing"
            found = path.stat()
            if found.st_size != size:
                return f"{path} has {found.st_size} bytes, and its manifest says {size}"
            if written is not None and found.st_mtime > written + SLACK_SECONDS and hash_file(path) != sha:
                return f"{path} was changed after it was made"
        return None


def manifest_path(artifact: Path) -> Path:
    """Where an artifact's manifest lies: beside it."""
    return artifact.with_name(artifact.name + ".manifest.json")


def provenance_path(artifact: Path) -> Path:
    """Where an artifact's provenance lies: beside it, or in `provenance/` where it is below `tidy/`.

    Folders of tidy results hold tables and nothing else, so that pandas, polars and duckdb open them.
    """
    beside = record_beside(artifact)
    parts = beside.parts
    if "tidy" not in parts[:-1]:
        return beside
    at = len(parts) - 1 - parts[::-1].index("tidy")
    return Path(*parts[:at], "provenance", *parts[at + 1 :])


def record_beside(artifact: Path) -> Path:
    """The place right beside an artifact, where the records of tidy results lay before."""
    return artifact.with_name(artifact.name + ".provenance.json")


def make_manifest(artifact: Path) -> Manifest:
    """Read an artifact whole and describe it."""
    if artifact.is_dir():
        files = {n: ((artifact / n).stat().st_size, hash_file(artifact / n)) for n in files_below(artifact)}
        return Manifest(hash_tree((name, sha) for name, (_, sha) in files.items()), files)
    sha = hash_file(artifact)
    return Manifest(sha, {".": (artifact.stat().st_size, sha)})


def parse_manifest(text: str, source: str | Path = "manifest") -> Manifest:
    """The manifest that a text spells out, or `ManifestError`."""
    try:
        content = json.loads(text)
        if content["version"] != VERSION:
            raise ManifestError(f"{source}: format version {content['version']}, expected {VERSION}")
        files = {name: (entry["size"], entry["sha256"]) for name, entry in content["files"].items()}
        return Manifest(content["hash"], files)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{source}: not a manifest ({error})") from None


def read_manifest(artifact: Path) -> Manifest | None:
    """The manifest beside an artifact, or nothing where there is none."""
    path = manifest_path(artifact)
    return parse_manifest(path.read_text(encoding="utf-8"), path) if path.is_file() else None


def content_hash(artifact: Path) -> str:
    """An input's identity: its manifest's word where the files bear it out, else read from its bytes."""
    if not artifact.exists():
        raise FileNotFoundError(f"{artifact} does not exist")
    manifest = read_manifest(artifact)
    if manifest is None:
        return make_manifest(artifact).hash
    if difference := manifest.first_difference(artifact, manifest_path(artifact).stat().st_mtime):
        raise ManifestError(f"{difference}; delete it and run its rule again")
    return manifest.hash
