"""Where an artifact came from and what it was made of; never read as an input."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from realign.artifacts.manifest import provenance_path, record_beside

LIBRARIES = (
    "realign", "torch", "transformers", "deepspeed", "sentence-transformers", "mteb", "tokenizers",
    "safetensors", "peft", "flash-attn", "faiss-cpu", "numpy", "scipy", "scikit-learn", "pandas",
    "pyarrow", "h5py", "matplotlib", "snakemake",
)  # fmt: skip


def installed_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """The versions of those libraries that are installed here."""
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def host_class() -> dict[str, Any]:
    """What kind of machine this is, without saying which one."""
    host: dict[str, Any] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }
    torch = sys.modules.get("torch")  # a job that never loaded torch used no GPU
    if torch is not None and torch.cuda.is_available():
        host["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return host


def read_provenance(artifact: Path) -> dict[str, Any] | None:
    """The provenance of an artifact, or nothing where there is none."""
    places = (provenance_path(artifact), record_beside(artifact))
    path = next((p for p in places if p.is_file()), None)
    return json.loads(path.read_text(encoding="utf-8")) if path else None


def lineage(artifact: Path, depth: int = 0) -> Iterator[tuple[int, Path, Mapping[str, Any] | None]]:
    """An artifact and everything it was made of, depth first, each place once."""
    yield from _lineage(artifact, depth, set())


def _lineage(
    artifact: Path, depth: int, seen: set[Path]
) -> Iterator[tuple[int, Path, Mapping[str, Any] | None]]:
    if artifact in seen:
        return
    seen.add(artifact)
    record = read_provenance(artifact)
    yield depth, artifact, record
    for given in (record or {}).get("inputs", {}).values():
        for entry in given:
            yield from _lineage(Path(entry["path"]), depth + 1, seen)
