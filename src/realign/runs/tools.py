"""Small tools around a study's results: show where a file came from, look after the work store,
say where the report is."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.artifacts.manifest import make_manifest, read_manifest
from realign.artifacts.provenance import lineage, read_provenance
from realign.artifacts.store import Entry, WorkStore
from realign.commands import STAGES, order
from realign.runs.flow import DEFAULT_STUDY
from realign.study.load import load_study
from realign.study.study import Study


def show(words: Sequence[str]) -> int:
    """Print where an artifact came from and what it was made of."""
    parser = argparse.ArgumentParser("realign show", description=show.__doc__, allow_abbrev=False)
    parser.add_argument("path", type=Path, help="a file or directory that a study made")
    parser.add_argument("--json", action="store_true", help="the whole record of this artifact, as JSON")
    parser.add_argument("--verify", action="store_true", help="read it whole and compare with its manifest")
    arguments = parser.parse_args(words)
    path: Path = arguments.path
    if not path.exists():
        raise UserError(f"{path} does not exist")
    record = read_provenance(path)
    if record is None:
        raise UserError(f"{path} has no provenance: it was not made by a study's command")
    if arguments.verify:
        _verify(path)
    if arguments.json:
        print(json.dumps(record, indent=1, sort_keys=True))
        return 0
    for depth, place, made in lineage(path):
        print("  " * depth + _one_line(place, made))
    for change in record.get("accepted", []):
        modules = ", ".join(change["changed_modules"])
        print(f"\nmade with code {change['made_with_code']}; accepted for other code on {change['when']}")
        print(f"  changed: {modules}\n  reason: {change['reason']}")
    print(f"\nsettings: {json.dumps(record['settings'], sort_keys=True)}")
    print(f"libraries: {', '.join(f'{k} {v}' for k, v in record['libraries'].items())}")
    print(f"host: {json.dumps(record['host'])}, {record['threads']} threads, {_use(record)}")
    return 0


def _use(record: Mapping[str, Any]) -> str:
    """The time and the memory that the work took; older records hold the seconds alone."""
    if "cpu_seconds" not in record:
        return f"{record['seconds']} s"
    memory = _size(1e6 * record["peak_memory_mb"])
    return f"{record['seconds']} s, {record['cpu_seconds']} s of CPU, {memory} at its peak"


def _one_line(place: Path, made: Mapping[str, Any] | None) -> str:
    if made is None:
        return f"{place}  (given, not made here)"
    notes = {k: made[k] for k in ("origin", "revision", "licence") if k in made}
    extra = f"  {json.dumps(notes)}" if notes else ""
    return f"{place}  made by {made['command']} on {made['made']} (code {made['code']}){extra}"


def _verify(path: Path) -> None:
    manifest = read_manifest(path)
    if manifest is None:
        raise UserError(f"{path} has no manifest to compare with")
    if make_manifest(path) != manifest:
        raise UserError(f"{path} is not what its manifest says; delete it and run its rule again")
    print(f"{path}: {len(manifest.files)} files, {manifest.size} bytes, as its manifest says")


def store(words: Sequence[str]) -> int:
    """Say how much the work of each stage takes, or prune it."""
    parser = argparse.ArgumentParser("realign store", description=store.__doc__, allow_abbrev=False)
    parser.add_argument("action", nargs="?", choices=("list", "prune"), default="list")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where studies lie")
    parser.add_argument("--older-than", type=float, default=30.0, metavar="DAYS", help="prune: its age")
    parser.add_argument("--unfinished", action="store_true", help="prune: only work that no job finished")
    parser.add_argument("--all", action="store_true", help="list: each piece of work by its key")
    arguments = parser.parse_args(words)
    places = [arguments.results / ".work", *sorted(arguments.results.glob("*/.work"))]
    stores = [WorkStore(place) for place in places if place.is_dir()]
    if not stores:
        raise UserError(f"no work store below {arguments.results}")
    for one in stores:
        if arguments.action == "prune":
            entries = one.prune(arguments.older_than, arguments.unfinished)
            print(f"{one.root}: pruned {len(entries)}, {_size(sum(e.size for e in entries))}")
        else:
            entries = one.entries()
            print(f"{one.root}: {len(entries)} entries, {_size(sum(e.size for e in entries))}")
        lines = map(_entry, entries) if arguments.all else _by_stage(entries)
        for line in lines:
            print("  " + line)
    return 0


def _by_stage(entries: Sequence[Entry]) -> Iterator[str]:
    """The work of each command, as the data flows: how many pieces, how large, what it took."""
    most = f"{'longest':>10} {'most CPU':>10} {'most memory':>12}"
    yield f"{'stage':<18} {'finished':>20} {'unfinished':>20} {most}"
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.command, []).append(entry)
    for command, members in sorted(groups.items(), key=lambda group: (order(group[0]), group[0])):
        done, begun = ([e for e in members if e.sealed is sealed] for sealed in (True, False))
        if command not in STAGES:  # vectors and the like: kept for other work, never sealed
            yield f"{command:<18} {_sum(begun):>20}   (kept for other work)"
        else:
            yield f"{command:<18} {_sum(done):>20} {_sum(begun):>20} {_most(done)}".rstrip()


def _most(entries: Sequence[Entry]) -> str:
    """The most that a finished piece of work took."""
    records = [entry.provenance for entry in entries]
    seconds, cpu, memory = (
        max((record.get(name) or 0.0 for record in records), default=0.0)
        for name in ("seconds", "cpu_seconds", "peak_memory_mb")
    )
    return f"{seconds:>8,.1f} s {cpu:>8,.1f} s {_size(1e6 * memory):>12}" if seconds else ""


def _sum(entries: Sequence[Entry]) -> str:
    return f"{len(entries):,}, {_size(sum(entry.size for entry in entries))}" if entries else ""


def _entry(entry: Entry) -> str:
    state = "finished" if entry.sealed else "unfinished" if entry.command in STAGES else "kept"
    age = (time.time() - entry.touched) / 86400
    return f"{_size(entry.size):>9}  {state:<10} {age:6.1f} days  {entry.folder.name}"


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def where(words: Sequence[str]) -> int:
    """Say what of a study's results is there, and which file to open first."""
    parser = argparse.ArgumentParser("realign where", description=where.__doc__, allow_abbrev=False)
    parser.add_argument("study", type=Path, nargs="?", default=DEFAULT_STUDY)
    study = load_study(parser.parse_args(words).study)
    if not print_places(study):
        raise UserError(f"nothing is made yet below results/{study.study.name}")
    return 0


def print_places(study: Study) -> bool:
    """Print where a study's results are, the report first; false where there are none."""
    root = Path("results") / study.study.name
    kinds = {
        "report": root / "report.html",
        "figures": root / "figures",
        "tables": root / "tables",
        "claims": root / "claims",
        "numbers": root / "tidy",
    }
    made = {what: path for what, path in kinds.items() if path.exists()}
    for what, path in made.items():
        count = f" ({sum(1 for p in path.rglob('*') if p.is_file())} files)" if path.is_dir() else ""
        print(f"{what:<8} {path}{count}")
    return bool(made)
