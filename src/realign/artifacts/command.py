"""What a stage's command is: its settings, what it reads and makes, and how the work is kept.

A stage declares a `Command` in a module that imports nothing heavy and gives it a function
`run(job)`. The rest is done here once for all: flags from the settings section, the key of the
work, continuing what a killed job left, sealing, publishing, provenance. A job whose work is
already sealed publishes it again without importing the stage at all.
"""

import contextlib
import functools
import importlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from realign.artifacts.disk import full_disk_explained
from realign.artifacts.errors import Interrupted, NodeError, UserError  # noqa: F401 (stages take them here)
from realign.artifacts.fingerprint import fingerprint, reachable
from realign.artifacts.hashing import hash_json
from realign.artifacts.manifest import content_hash
from realign.artifacts.near import NearDisk
from realign.artifacts.provenance import host_class, installed_versions
from realign.artifacts.store import Seal, Work, WorkStore, work_key
from realign.study.base import Section

log = logging.getLogger(__name__)
RUN_VARIABLE = "REALIGN_RUN"  # where the record of the run that a job belongs to lies


@dataclass(frozen=True)
class Input:
    """A file or directory that a command reads."""

    help: str
    many: bool = False
    required: bool = True


@dataclass(frozen=True)
class Output:
    """A file or directory that a command makes; large ones carry a manifest beside them."""

    help: str
    manifest: bool = False
    required: bool = True


S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Command(Generic[S]):
    """A stage's command as the command line, the workflow and the work store see it.

    `run` names the function that does the work as `module:function`; the module may import
    whatever it needs, since it is imported only when there is work to do.
    """

    name: str
    help: str
    run: str
    settings: type[S]
    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    formats: Mapping[str, int] = field(default_factory=dict)  # versions of the formats it writes
    front: str = ""  # a `module:main(words)` that people get, where a rule's own flags do not suit them

    @property
    def code(self) -> str:
        """The fingerprint of everything that this command's work can reach."""
        return hash_json({"code": fingerprint(self.run.split(":")[0]), "formats": self.formats})[:16]


@dataclass
class Job(Generic[S]):
    """One run of a command: what it was asked, what it reads, and where it works."""

    command: Command[S]
    settings: S
    inputs: Mapping[str, Path | list[Path]]
    work: Work
    threads: int = 1
    notes: dict[str, Any] = field(default_factory=dict)

    def input(self, name: str) -> Path:
        """The single path given for an input."""
        given = self.inputs[name]
        if not isinstance(given, Path):
            raise TypeError(f"input '{name}' is a list; use inputs_of")
        return given

    def inputs_of(self, name: str) -> list[Path]:
        """All paths given for an input; none where an optional one was left out."""
        given = self.inputs.get(name, [])
        return [given] if isinstance(given, Path) else list(given)

    def output(self, name: str) -> Path:
        """Where the command writes an output; it is published from there once all are whole."""
        if name not in self.command.outputs:
            raise KeyError(f"'{name}' is no output of {self.command.name}")
        return self.work.out / name

    @property
    def scratch(self) -> Path:
        """A folder for shards and checkpoints; it survives a kill and belongs to this work alone."""
        return self.work.scratch

    @functools.cached_property
    def near_disk(self) -> NearDisk:
        """This node's own disk, for what the work reads at random or more than once; empty afterwards."""
        return NearDisk(self.work.folder.name)

    def near(self, name: str) -> Path:
        """The single file given for an input, on this node's own disk where the site names one."""
        return self.near_disk.bring(self.input(name), name)

    def note(self, **facts: Any) -> None:
        """Add facts to the provenance: origin, licence, resolved revision, counts."""
        self.notes.update(facts)


def identify(inputs: Mapping[str, Path | list[Path]]) -> dict[str, list[str]]:
    """The content hashes of a command's inputs, by name and in the order given."""
    return {
        name: [content_hash(p) for p in ([given] if isinstance(given, Path) else given)]
        for name, given in inputs.items()
    }


def execute(
    command: Command[S],
    settings: S,
    inputs: Mapping[str, Path | list[Path]],
    outputs: Mapping[str, Path],
    store: WorkStore,
    threads: int = 1,
    force: bool = False,
    before_work: Callable[[Work], None] = lambda work: None,
) -> Seal:
    """Make a command's outputs: from sealed work where there is some, else by doing the work.

    `before_work` is called where there is work to do, and raises what speaks against doing it here.
    """
    hashes = identify(inputs)
    key = work_key(command.name, hashes, settings.as_slice(), command.code)
    work = store.work(command.name, key)
    with full_disk_explained(store.root), work.locked():
        seal = None if force else work.sealed()
        if seal is None:
            before_work(work)
            log.info("%s: working in %s", command.name, work.folder)
            work.begin()
            job = Job(command, settings, inputs, work, threads)
            with work.measured(), _failure_told(work), full_disk_explained(work.folder):
                try:
                    _function(command.run)(job)
                finally:
                    job.near_disk.clear()
            made = {name: job.output(name) for name in outputs}
            seal = work.seal(made, _provenance(job, hashes, key))
        else:
            log.info("%s: already made, publishing from %s", command.name, work.folder)
        missing = sorted(set(outputs) - set(seal.outputs))
        if missing:  # an optional output that an earlier run was not asked for
            raise UserError(f"{command.name}: sealed work lacks {', '.join(missing)}; use --force")
        with_manifest = frozenset(n for n, o in command.outputs.items() if o.manifest)
        work.publish(seal, outputs, with_manifest)
        return seal


@contextlib.contextmanager
def _failure_told(work: Work) -> Iterator[None]:
    """Let the work remember why it failed, for those who only ask for its result."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        shutil.rmtree(work.out, ignore_errors=True)  # half made, and in the way where the disk is full
        work.failure = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise


def _function(reference: str) -> Any:
    module, name = reference.split(":")
    return getattr(importlib.import_module(module), name)


def _provenance(job: Job[Any], hashes: dict[str, list[str]], key: str) -> dict[str, Any]:
    given = {
        name: [
            {"path": os.path.relpath(path), "hash": value}
            for path, value in zip(job.inputs_of(name), values, strict=True)
        ]
        for name, values in hashes.items()
    }
    return {
        "command": job.command.name,
        "settings": job.settings.as_slice(),
        "inputs": given,
        "key": key,
        "code": job.command.code,
        "formats": dict(job.command.formats),
        "modules": reachable(job.command.run.split(":")[0]),
        "libraries": installed_versions(),
        "host": host_class(),
        "threads": job.threads,
        # of all attempts, however many jobs they were
        **{name: round(used, 3) for name, used in asdict(job.work.used()).items()},
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **job.notes,
    }
