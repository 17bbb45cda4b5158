"""What a run left in its provenance records: versions, machines, hours by stage."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from realign.engine.progress import follow
from realign.results.tidy import pick, read_table


@dataclass
class RunFacts:
    """Facts for the report; none of them is a result."""

    libraries: dict[str, str] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    tidy: set[str] = field(default_factory=set)
    parameters: dict[str, float] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """How many jobs left a record."""
        return sum(self.counts.values())


def read_run(results: Path) -> RunFacts:
    """Read every provenance record below a folder of results, each piece of work once."""
    facts = RunFacts()
    tidy = results / "tidy"
    facts.tidy = {p.relative_to(tidy).as_posix() for p in tidy.rglob("*.parquet")}
    backbones = read_table("backbones", sorted((tidy / "backbones").glob("*.parquet")))
    sizes = pick(backbones, metric="parameters")
    facts.parameters = {str(n): float(v) for n, v in sizes[["backbone", "value"]].to_numpy()}
    seen: set[str] = set()
    libraries: dict[str, set[str]] = {}
    for path in follow(_records(results), "reading provenance", unit="records"):
        record = json.loads(path.read_text(encoding="utf-8"))
        key = f"{record.get('command')}-{record.get('key')}"
        if key in seen:
            continue
        seen.add(key)
        command = _stage(str(record.get("command", "unknown")))
        facts.counts[command] += 1
        facts.seconds[command] = facts.seconds.get(command, 0.0) + float(record.get("seconds", 0.0))
        for name, version in record.get("libraries", {}).items():
            libraries.setdefault(name, set()).add(str(version))
        if (host := _host(record.get("host", {}))) not in facts.hosts:
            facts.hosts.append(host)
    facts.libraries = {n: " and ".join(sorted(v)) for n, v in sorted(libraries.items())}
    return facts


def _stage(command: str) -> str:
    """A command as the report lists it: all figures as one, and all tables."""
    kind, _, which = command.partition("_")
    return f"{kind}s" if which and kind in ("figure", "table") else command


def _records(results: Path) -> list[Path]:
    found = results.rglob("*.provenance.json")
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(results).parts))


def _host(host: dict) -> str:
    gpus = Counter(host.get("gpus", []))
    parts = [
        f"{host.get('system', '?')} {host.get('machine', '')}",
        f"{host.get('cores', '?')} cores",
        f"{host.get('memory_gb', '?')} GB",
    ]
    return ", ".join([*parts, *(f"{count} × {name}" for name, count in gpus.items())])
