"""`realign archive`: the numbers, drawings and provenance of a study in one file, ready for a DOI.

No weights and no states go in. Files are sorted and carry no dates, so the same results make the
same bytes; SHA256SUMS inside lets anyone check what they received, and `ro-crate-metadata.json` describes
the run to catalogues.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from realign.artifacts.command import UserError
from realign.artifacts.files import write_whole
from realign.artifacts.hashing import hash_file
from realign.artifacts.manifest import read_manifest
from realign.engine.logs import start_logging
from realign.runs.flow import workflow_folder
from realign.tools.crate import METADATA, RECORD, describe_run, dump

log = logging.getLogger(__name__)

FOLDERS = ("tidy", "figures", "tables", "claims", "scores", "mined")
SUFFIXES = {".parquet", ".json", ".csv", ".md", ".tex", ".pdf", ".png", ".svg", ".html", ".tsv"}
SUMS = "SHA256SUMS"
STUDY = "study.yaml"
EPOCH = (1980, 1, 1, 0, 0, 0)


def members(results: Path) -> list[Path]:
    """What goes into an archive: tidy results, drawings, the report, and every provenance record."""
    found = {results / "report.html"} if (results / "report.html").is_file() else set()
    for folder in FOLDERS:
        found |= {p for p in (results / folder).rglob("*") if p.is_file() and _kept(p, results)}
    for record in results.rglob("*.provenance.json"):
        if ".work" not in record.relative_to(results).parts:
            found.add(record)
    return sorted(found)


def _kept(path: Path, results: Path) -> bool:
    inside = path.relative_to(results)
    candidates = inside.parts[0] == "mined" and path.suffix == ".parquet"  # holds texts, not numbers
    return path.suffix in SUFFIXES and not candidates and not any(p.startswith(".") for p in inside.parts)


def _readme(name: str, count: int) -> str:
    return (
        f"# {name}: tidy results, figures and provenance\n\n"
        f"{count} files made by Realign; their checksums are in `{SUMS}` (`sha256sum -c {SUMS}`).\n\n"
        "- `tidy/`: every number, in long Parquet tables; `tidy/study.json` says what the study is made of\n"
        "- `figures/`, `tables/`, `claims/`, `report.html`: what is drawn and judged from them\n"
        "- `*.provenance.json`: how each file was made: command, settings, inputs, versions, seconds\n"
        f"- `{METADATA}`: the same as a Workflow Run RO-Crate, with the workflow in `workflow/`\n\n"
        "Draw everything again, without models: `realign figures --results THIS_FILE --out DIR`.\n"
    )


def _records(results: Path, files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The provenance in an archive by what it is of, as a place below the folder of results."""
    found = {}
    for path in files:
        place = path.relative_to(results).as_posix()
        record = json.loads(path.read_text(encoding="utf-8")) if place.endswith(RECORD) else {}
        if "command" in record:
            place = f"tidy/{p}" if (p := place.removeprefix("provenance/")) != place else place
            found[place.removesuffix(RECORD)] = record
    return found


def write_archive(
    results: Path, place: Path, study_file: Path | None = None, license: str | None = None
) -> int:
    """Write the archive of a folder of results; returns how many files of results it holds."""
    if not (results / "tidy/study.json").is_file():
        raise UserError(f"{results}/tidy/study.json: no such file; run the workflow's target `tidy` first")
    files = members(results)
    description = json.loads((results / "tidy/study.json").read_text(encoding="utf-8"))
    content: dict[str, Path | bytes] = {path.relative_to(results).as_posix(): path for path in files}
    content["README.md"] = _readme(description["name"], len(files)).encode()
    if study_file:
        content[STUDY] = study_file
    records = _records(results, files)
    if records:  # a run that left no records can't be described
        workflow = workflow_folder() / "workflow"
        code = [p for p in workflow.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        content |= {f"workflow/{p.relative_to(workflow).as_posix()}": p for p in code}
    sums = {name: _sum(content[name]) for name in sorted(content)}
    if records:
        manifests = {name: read_manifest(results / name) for name in records}
        hashes = {name: manifest.hash for name, manifest in manifests.items() if manifest}
        named = STUDY if study_file else "tidy/study.json"
        metadata = dump(describe_run(description, sums, records, hashes, license, named))
        content[METADATA], sums[METADATA] = metadata, _sum(metadata)
    content[SUMS] = "".join(f"{sha}  {name}\n" for name, (_, sha) in sorted(sums.items())).encode()
    place.parent.mkdir(parents=True, exist_ok=True)

    def write(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, source in sorted(content.items()):
                _add(archive, f"{description['name']}/{name}", source)

    write_whole(place, write)
    return len(files)


def _sum(source: Path | bytes) -> tuple[int, str]:
    """Size and SHA-256."""
    if isinstance(source, bytes):
        return len(source), hashlib.sha256(source).hexdigest()
    return source.stat().st_size, hash_file(source)


def _add(archive: zipfile.ZipFile, name: str, source: Path | bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, source if isinstance(source, bytes) else source.read_bytes())


def check(results: Path) -> None:
    """Compare every file of an unpacked archive with its checksum."""
    for line in (results / SUMS).read_text(encoding="utf-8").splitlines():
        wanted, name = line.split("  ", 1)
        path = results / name
        if not path.is_file():
            raise UserError(f"{name}: listed in {SUMS} and not in the archive")
        if hash_file(path) != wanted:
            raise UserError(f"{name}: its bytes are not those that {SUMS} lists; fetch the archive again")


@contextlib.contextmanager
def opened(place: Path) -> Iterator[Path]:
    """The folder of results behind a path: itself, or an archive unpacked and checked."""
    if place.is_dir():
        yield place
        return
    if not zipfile.is_zipfile(place):
        raise UserError(f"{place}: neither a folder of results nor an archive made by `realign archive`")
    folder = Path(tempfile.mkdtemp(prefix="realign-"))
    try:
        with zipfile.ZipFile(place) as archive:
            archive.extractall(folder)
        inside = next(p for p in sorted(folder.iterdir()) if p.is_dir())
        check(inside)
        yield inside
    finally:
        shutil.rmtree(folder)


def main(words: Sequence[str]) -> int:
    """Parse the command line and write or check an archive."""
    parser = argparse.ArgumentParser(
        "realign archive",
        description="Put tidy results, drawings and provenance into one checked file.",
        allow_abbrev=False,
    )
    parser.add_argument("--results", type=Path, required=True, help="folder of results (results/<study>)")
    parser.add_argument("--out", type=Path, help="the archive to write (default: <study>.zip)")
    parser.add_argument("--configfile", type=Path, help="the study's file, which goes in as study.yaml")
    parser.add_argument("--license", help="of the results, for their RO-Crate: a URL, or words")
    parser.add_argument("--check", action="store_true", help="check an archive given as --results instead")
    given = parser.parse_args(list(words))
    start_logging()
    if given.check:
        with opened(given.results):
            log.info("%s: every checksum agrees", given.results)
        return 0
    place = given.out or Path(f"{given.results.resolve().name}.zip")
    if place.suffix != ".zip":
        raise UserError(f"{place}: an archive is a zip file; give it a name that ends in .zip")
    if given.configfile and not given.configfile.is_file():
        raise UserError(
            f"{given.configfile}: no such file; --configfile takes the file that the study was run with"
        )
    count = write_archive(given.results, place, given.configfile, given.license)
    log.info("%s: %d files, %.1f MB, sha256 %s", place, count, place.stat().st_size / 1e6, hash_file(place))
    return 0
