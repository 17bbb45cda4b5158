"""Which benchmarks there are and which tasks each holds, read from a file made from mteb's own lists.

Planning a study must not import mteb, so the file is made beforehand (`realign.evaluation` says
how); it names each task's dataset revision, which becomes part of what a score is identified by.
"""

import functools
import json
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("benchmarks.json")

# Benchmarks under a name of ours: the one of mteb's that they are taken from, and which tasks.
OURS: dict[str, tuple[str, Callable[[str], bool] | None]] = {
    "BRIGHT": ("BRIGHT(v1.1)", lambda task: not task.endswith("LongRetrieval")),
    "RTEB": ("RTEB(beta)", None),
}


@functools.cache
def _content() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def planned_mteb() -> str:
    """The version of mteb that the lists were made from."""
    return _content()["mteb"]


@functools.cache
def installed_mteb() -> str:
    """The version of mteb that is installed here; the lists' own where none is."""
    try:
        return metadata.version("mteb")
    except metadata.PackageNotFoundError:
        return planned_mteb()


def benchmarks() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Every benchmark: its tasks, each with the splits and subsets it takes where not all."""
    return _content()["benchmarks"]


def tasks() -> Mapping[str, Mapping[str, Any]]:
    """Every task of mteb's that is about text alone: type, metric, dataset, revision, counts."""
    return _content()["tasks"]
