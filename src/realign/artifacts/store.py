"""The work store: where a stage works until its result is whole, and from where it is published.

Snakemake deletes outputs before a job starts and after it fails, and reruns every descendant of a
rerun job. So work lives in `.work/<command>-<key>/`, where the key is the hash of everything the
result depends on. `scratch/` holds shards and checkpoints and survives a kill; `out/` holds the
result. Sealing writes `sealed.json` last, so a killed job never leaves anything that looks
finished; publishing puts the data in its place first and its manifest last.
"""

import contextlib
import fcntl
import json
import logging
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from realign.artifacts.files import link_or_copy, write_text_whole
from realign.artifacts.hashing import canonical_json, files_below, hash_json
from realign.artifacts.manifest import (
    Manifest,
    ManifestError,
    make_manifest,
    manifest_path,
    parse_manifest,
    provenance_path,
    record_beside,
)

log = logging.getLogger(__name__)

SEAL_VERSION = 1
# Smaller files are copied: a hard link would share its time stamp with every other place the same
# result is published to, and the workflow compares time stamps.
LINK_FROM_BYTES = 1 << 20


def work_key(command: str, inputs: Mapping[str, Any], settings: Any, code: str) -> str:
    """The identity of a piece of work: what goes in, what was asked, and the code that does it."""
    return hash_json({"command": command, "inputs": inputs, "settings": settings, "code": code})[:24]


@dataclass(frozen=True)
class Seal:
    """What a finished piece of work consists of."""

    outputs: Mapping[str, Manifest]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Use:
    """What attempts at a piece of work used on this machine.

    Snakemake's benchmarks can't tell: a job's work may be done by a process that is no child of its command.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of all processes
    peak_memory_mb: float = 0.0  # of the largest process

    @classmethod
    def until_now(cls) -> "Use":
        """What this process used, and those of its children that have ended."""
        own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        unit = 1 if sys.platform == "darwin" else 1024  # bytes of one `ru_maxrss`
        return cls(
            time.monotonic(),
            own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime,
            max(own.ru_maxrss, others.ru_maxrss) * unit / 1e6,
        )


class Work:
    """One piece of work in the store, finished or not."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder / "out"
        self.scratch = folder / "scratch"
        self._seal = folder / "sealed.json"
        self._used = self.scratch / ".used"  # in scratch, to go with the attempts that it counts
        self._failure = self.scratch / ".failure"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the work for this process; a second process that wants the same work says so and waits."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("a+", encoding="utf-8") as stream:
                self._wait_for(stream)
                if self._is_current(stream):  # else it was pruned while this process waited
                    stream.truncate(0)
                    stream.write(f"process {os.getpid()} on {os.uname().nodename}")
                    stream.flush()
                    yield
                    return

    def _wait_for(self, stream: TextIO) -> None:
        """Take the lock; where another process has it, say which one, since it may be at work for hours."""
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read() or "another process"
            log.warning("%s is at work in %s: this job waits until it is done", holder, self.folder)
            fcntl.lockf(stream, fcntl.LOCK_EX)

    def _is_current(self, stream: TextIO) -> bool:
        try:
            return os.path.samestat(os.fstat(stream.fileno()), (self.folder / "lock").stat())
        except FileNotFoundError:
            return False

    def prune_if(self, unwanted: Callable[["Entry"], bool]) -> bool:
        """Delete the work if no process holds it and it is still unwanted once it is ours."""
        try:
            with (self.folder / "lock").open("a") as stream:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not unwanted(Entry.read(self.folder)):
                    return False
                shutil.rmtree(self.folder)
                return True
        except BlockingIOError:
            return False

    def begin(self) -> None:
        """Make room for the work; what an earlier attempt left in `scratch` stays."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        self.scratch.mkdir(exist_ok=True)
        self._failure.unlink(missing_ok=True)

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Add the time and the memory of what is done within to `used`, also where it ends with an error.

        An attempt that is killed outright has no time to write its own down, and is left out.
        """
        before, start = self.used(), Use.until_now()
        try:
            yield
        finally:
            end = Use.until_now()
            use = Use(
                before.seconds + end.seconds - start.seconds,
                before.cpu_seconds + end.cpu_seconds - start.cpu_seconds,
                max(before.peak_memory_mb, end.peak_memory_mb),
            )
            with contextlib.suppress(OSError):  # a full disk must not hide why the attempt ended
                write_text_whole(self._used, json.dumps(asdict(use)))

    def used(self) -> Use:
        """What the attempts used so far, from the first one on."""
        try:
            return Use(**json.loads(self._used.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Use()

    @property
    def failure(self) -> str:
        """Why the last attempt failed; empty where it did not, or nothing is known of one."""
        return self._failure.read_text(encoding="utf-8") if self._failure.is_file() else ""

    @failure.setter
    def failure(self, why: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not hide why the attempt ended
            write_text_whole(self._failure, why)

    def seal(self, outputs: Mapping[str, Path], provenance: Mapping[str, Any]) -> Seal:
        """Declare the result whole: flush it, describe it, and only then write the seal."""
        manifests = {}
        for name, path in outputs.items():
            if not path.exists():
                raise FileNotFoundError(f"the command ended without writing its output '{name}'")
            _flush(path)
            manifests[name] = make_manifest(path)
        seal = Seal(manifests, provenance)
        self._write_seal(seal)
        shutil.rmtree(self.scratch, ignore_errors=True)
        for path in outputs.values():
            _let_others_read(path)  # now that only a link to a file of the user's own is a second name
        return seal

    def _write_seal(self, seal: Seal) -> None:
        record = {
            "version": SEAL_VERSION,
            "outputs": {name: json.loads(m.dump()) for name, m in seal.outputs.items()},
            "provenance": seal.provenance,
        }
        write_text_whole(self._seal, json.dumps(record, indent=1, sort_keys=True) + "\n")

    def hand_over(self, heir: "Work", provenance: Mapping[str, Any]) -> bool:
        """Let a finished result stand under another key too; false where there is none."""
        if self.peek() is None:  # asked before locking, which makes the folder
            return False
        with self.locked(), heir.locked():
            seal = self.peek(thoroughly=True)
            if seal is not None and heir.peek() is None:
                heir.begin()
                for name in seal.outputs:
                    _place(self.out / name, heir.out / name)
                heir._write_seal(Seal(seal.outputs, provenance))
            return seal is not None

    def sealed(self) -> Seal | None:
        """The finished result, if there is one; a seal that its files do not bear out is broken."""
        seal = self.peek(thoroughly=True)
        if seal is not None:
            os.utime(self._seal)  # what was touched until now has been read and need not be again
        elif self._seal.is_file():
            log.warning("%s does not fit what lies beside it; the work is done again", self._seal)
            self._seal.unlink()
        return seal

    def peek(self, thoroughly: bool = False) -> Seal | None:
        """The finished result, if there is one and its files are still what the seal says.

        Thoroughly, files that were touched after sealing are read, which may take seconds.
        """
        try:
            record = json.loads(self._seal.read_text(encoding="utf-8"))
            if record["version"] != SEAL_VERSION:
                return None
            provenance = record["provenance"]
            outputs = {
                name: parse_manifest(canonical_json(m), self._seal) for name, m in record["outputs"].items()
            }
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, ManifestError):
            return None  # none, or a damaged one
        written = self._seal.stat().st_mtime if thoroughly else None
        if any(m.first_difference(self.out / name, written) for name, m in outputs.items()):
            return None
        return Seal(outputs, provenance)

    def publish(self, seal: Seal, places: Mapping[str, Path], with_manifest: frozenset[str]) -> None:
        """Put each output where it was asked for: data, provenance, and the manifest last of all."""
        for name, place in places.items():
            manifest_path(place).unlink(missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            _place(self.out / name, place)
            record = provenance_path(place)
            record.parent.mkdir(parents=True, exist_ok=True)
            write_text_whole(record, json.dumps(seal.provenance, indent=1, sort_keys=True) + "\n")
            if record != (before := record_beside(place)):
                before.unlink(missing_ok=True)
            if name in with_manifest:
                write_text_whole(manifest_path(place), seal.outputs[name].dump())


class WorkStore:
    """All work of a study: finished results and what killed jobs left to continue from."""

    def __init__(self, root: Path):
        self.root = root

    def work(self, command: str, key: str) -> Work:
        """The place of one piece of work, which need not exist yet."""
        return Work(self.root / f"{command}-{key}")

    def entries(self) -> list["Entry"]:
        """What lies in the store, largest first."""
        folders = [p for p in self.root.glob("*-*") if p.is_dir()]
        return sorted((Entry.read(p) for p in folders), key=lambda e: (-e.size, e.folder.name))

    def prune(self, older_than_days: float, unfinished_only: bool = False) -> list["Entry"]:
        """Delete work last touched longer ago than that; published results stay where they are."""
        limit = time.time() - older_than_days * 86400

        def unwanted(entry: Entry) -> bool:
            return entry.touched <= limit and not (unfinished_only and entry.sealed)

        return [e for e in self.entries() if unwanted(e) and Work(e.folder).prune_if(unwanted)]


@dataclass(frozen=True)
class Entry:
    """One folder of the store as a person wants to see it listed."""

    folder: Path
    command: str
    sealed: bool
    size: int
    touched: float

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What its seal says of how it was made; nothing where there is no whole seal."""
        try:
            return dict(json.loads((self.folder / "sealed.json").read_text(encoding="utf-8"))["provenance"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    @classmethod
    def read(cls, folder: Path) -> "Entry":
        """Measure a folder of the store; a job at work may take files away meanwhile."""
        stats = []
        for name in files_below(folder):
            with contextlib.suppress(FileNotFoundError):
                stats.append((folder / name).stat())
        return cls(
            folder,
            folder.name.rsplit("-", 1)[0],
            (folder / "sealed.json").is_file(),
            sum(s.st_size for s in stats),
            max((s.st_mtime for s in stats), default=folder.stat().st_mtime),
        )


def _flush(path: Path) -> None:
    for file in [path] if path.is_file() else [path / name for name in files_below(path)]:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _let_others_read(path: Path) -> None:
    """Give files the rights that the umask leaves; safetensors, for one, writes them for their owner alone.

    A file that has another name too was linked here: its rights are its owner's business.
    """
    mask = os.umask(0)
    os.umask(mask)
    for file in [path] if path.is_file() else [path / name for name in files_below(path)]:
        if file.stat().st_nlink == 1:
            file.chmod(file.stat().st_mode | (0o666 & ~mask))


def _link_large(source: str, target: str) -> None:
    if Path(source).stat().st_size < LINK_FROM_BYTES:
        shutil.copyfile(source, target)
    else:
        link_or_copy(source, target)
        os.utime(target)


def _place(source: Path, place: Path) -> None:
    """Make `place` hold what `source` holds, through a neighbour that is renamed when whole."""
    for left in place.parent.glob(f".{place.name}.*"):
        if left.name.rsplit(".", 1)[1].isdigit():  # by a kill: the neighbour of another process
            _remove(left)
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        if source.is_dir():
            shutil.copytree(source, beside, copy_function=_link_large)
            os.utime(beside)
        else:
            _link_large(str(source), str(beside))
    except BaseException:
        _remove(beside)
        raise
    _remove(place)
    beside.rename(place)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
