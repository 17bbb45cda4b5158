"""The run that made an archive's results, as a Workflow Run RO-Crate: what `ro-crate-metadata.json` says.

Every job whose provenance is in the archive becomes a `CreateAction` with its software, settings, inputs,
outputs and times. What stays out of the archive, such as weights, is named by its hash.
Profiles: https://www.researchobject.org/workflow-run-crate/
"""

import json
import mimetypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from realign.artifacts.hashing import canonical_json, hash_json

METADATA = "ro-crate-metadata.json"
WORKFLOW = "workflow/Snakefile"
RECORD = ".provenance.json"
CONTEXTS = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
CRATE = "https://w3id.org/ro/crate/1.1"
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".md": "text/markdown",
    ".smk": "text/x-snakemake",
    ".tsv": "text/tab-separated-values",
}
NO_LICENSE = "No licence is stated."

Entity = dict[str, Any]


class Crate:
    """The entities of a crate, each under its identifier once."""

    def __init__(self, study: str, files: Mapping[str, tuple[int, str]], hashes: Mapping[str, str]):
        self.study = study
        self.files = files  # size and SHA-256 of what the archive holds, by name
        self.hashes = hashes  # of artifacts that stay out of it, by place below the folder of results
        self.entities: dict[str, Entity] = {}

    def add(self, place: str, kind: str | list[str], **properties: Any) -> Entity:
        """Describe something, unless it is there already, and return a reference to it."""
        self.entities.setdefault(place, {"@id": place, "@type": kind, **properties})
        return {"@id": place}

    def artifact(self, place: str, sha: str | None) -> list[Entity]:
        """References to what a job read or wrote: a file, the files of a folder, or what stays out."""
        if place in self.files and sha in (None, self.files[place][1]):
            return [{"@id": quote(place)}]
        if sha is None and (inside := [f for f in self.files if f.startswith(f"{place}/")]):
            return [{"@id": quote(f)} for f in inside]
        sha = sha or self.hashes.get(place)
        name = f"#{quote(place)}" + (f"@{sha[:12]}" if sha else "")
        known = {"identifier": f"content hash {sha}"} if sha else {}
        about = "An earlier state of a file of this archive" if place in self.files else "Not in this archive"
        return [self.add(name, "CreativeWork", name=place, description=about, **known)]

    def below_results(self, path: str) -> str:
        """A path as a job wrote it down, below the folder of results where it lay there."""
        parts = PurePosixPath(path).parts
        marks = [i for i, part in enumerate(parts[:-1]) if part == self.study and parts[i - 1] == "results"]
        return "/".join(parts[marks[-1] + 1 :]) if marks else path


def describe_run(
    description: Mapping[str, Any],
    files: Mapping[str, tuple[int, str]],
    records: Mapping[str, Mapping[str, Any]],
    hashes: Mapping[str, str],
    license: str | None = None,
    study_file: str = "tidy/study.json",
) -> Entity:
    """A crate's metadata.

    Args:
        description: the study, as `tidy/study.json` holds it
        files: size and SHA-256 of every file of the archive, by name
        records: the provenance of every artifact, by the artifact's place below the folder of results
        hashes: content hashes of artifacts that stay out of the archive, where they are known
        license: of the results, as a URL or in words
        study_file: the file of the archive that says what was studied
    """
    crate = Crate(description["name"], files, hashes)
    ended = [record["made"] for record in records.values()]
    actions = [_job(crate, places, record) for places, record in _jobs(records)]
    for name, (size, sha) in files.items():
        kind = ["File", "SoftwareSourceCode", "ComputationalWorkflow"] if name == WORKFLOW else "File"
        crate.add(quote(name), kind, name=name, contentSize=str(size), sha256=sha, encodingFormat=_type(name))
    crate.entities["README.md"]["about"] = {"@id": "./"}
    run = _run(crate, actions, records, study_file)
    crate.add(
        METADATA,
        "CreativeWork",
        about={"@id": "./"},
        conformsTo=[{"@id": CRATE}, {"@id": WORKFLOW_CRATE}],
    )
    name = description.get("title") or description["name"]
    crate.add(
        "./",
        "Dataset",
        name=name,
        description=description.get("question") or f"Results of the study {name}, made by Realign.",
        datePublished=max(ended),
        license=license or NO_LICENSE,
        conformsTo=[_profile(crate, *profile) for profile in PROFILES.items()],
        mainEntity={"@id": WORKFLOW},
        hasPart=[{"@id": quote(file)} for file in files],
        mentions=[run, *actions],
    )
    graph = [{key: _compact(value) for key, value in e.items()} for e in crate.entities.values()]
    return {"@context": CONTEXTS, "@graph": graph}


def _compact(value: Any) -> Any:
    """One value stands for itself, as the standard asks."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _jobs(
    records: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """The jobs, each with what it made: all outputs of a job have the same record beside them."""
    made: dict[str, list[str]] = {}
    for place, record in sorted(records.items()):
        made.setdefault(hash_json(record), []).append(place)
    for places in made.values():
        yield places, records[places[0]]


def _job(crate: Crate, places: Sequence[str], record: Mapping[str, Any]) -> Entity:
    """One job as an action."""
    given = [(crate.below_results(e["path"]), e["hash"]) for es in record["inputs"].values() for e in es]
    settings = crate.add(
        f"#settings-{hash_json(record['settings'])[:12]}",
        "PropertyValue",
        name="settings",
        value=canonical_json(record["settings"]),
    )
    began, ended = _times(record)
    return crate.add(
        f"#{record['command']}-{hash_json([record['key'], places])[:12]}",
        "CreateAction",
        name=f"{record['command']} {places[0]}",
        description=f"`realign {record['command']}` made {', '.join(places)}.",
        instrument=_software(crate, record),
        object=[settings, *_once(e for place, sha in given for e in crate.artifact(place, sha))],
        result=_once(e for place in places for e in crate.artifact(place, None)),
        startTime=began.isoformat(),
        endTime=ended.isoformat(),
        actionStatus="http://schema.org/CompletedActionStatus",
    )


def _run(
    crate: Crate, actions: Sequence[Entity], records: Mapping[str, Mapping[str, Any]], study_file: str
) -> Entity:
    """The workflow, and its run as an action whose results are those of all jobs that the archive holds."""
    study = crate.add(
        "#study",
        "FormalParameter",
        name="study",
        additionalType="File",
        workExample={"@id": study_file},
        description="What is studied: models, data, recipes, measures, tasks and claims.",
    )
    crate.entities[study_file]["exampleOfWork"] = study
    tools = _once(crate.entities[action["@id"]]["instrument"] for action in actions)
    crate.entities[WORKFLOW] |= {
        "name": "Realign",
        "description": "What did post-training do to a model's representations?",
        "conformsTo": {"@id": BIOSCHEMAS},
        "programmingLanguage": crate.add(
            SNAKEMAKE,
            "ComputerLanguage",
            name="Snakemake",
            identifier={"@id": "https://snakemake.github.io"},
            url={"@id": "https://snakemake.github.io"},
        ),
        "hasPart": tools,
        "input": [study],
        "license": "https://spdx.org/licenses/Apache-2.0",
    }
    made = _once(result for action in actions for result in crate.entities[action["@id"]]["result"])
    times = [_times(record) for record in records.values()]
    return crate.add(
        "#run",
        "CreateAction",
        name=f"Run of the workflow for {crate.study}",
        description="From the first job that these results need to the last, with all breaks between.",
        instrument={"@id": WORKFLOW},
        object=[{"@id": study_file}],
        result=[result for result in made if not result["@id"].startswith("#")],
        startTime=min(began for began, _ in times).isoformat(),
        endTime=max(ended for _, ended in times).isoformat(),
        actionStatus="http://schema.org/CompletedActionStatus",
    )


def _software(crate: Crate, record: Mapping[str, Any]) -> Entity:
    """A command of Realign with the libraries that it ran with."""
    versions = record["libraries"]
    libraries = [
        crate.add(f"#{name}-{quote(version)}", "SoftwareApplication", name=name, softwareVersion=version)
        for name, version in versions.items()
    ]
    return crate.add(
        f"#realign-{record['command']}-{hash_json([record['code'], versions])[:12]}",
        "SoftwareApplication",
        name=f"realign {record['command']}",
        softwareVersion=f"{versions.get('realign', 'unknown')}, code {record['code']}",
        softwareRequirements=libraries,
    )


def _times(record: Mapping[str, Any]) -> tuple[datetime, datetime]:
    ended = datetime.fromisoformat(record["made"])
    return ended - timedelta(seconds=round(record["seconds"])), ended


def _profile(crate: Crate, address: str, name_and_version: tuple[str, str]) -> Entity:
    return crate.add(address, "CreativeWork", name=name_and_version[0], version=name_and_version[1])


def _once(references: Iterable[Entity]) -> list[Entity]:
    return list({reference["@id"]: reference for reference in references}.values())


def _type(name: str) -> str:
    guessed = TYPES.get(PurePosixPath(name).suffix) or mimetypes.guess_type(name)[0]
    return guessed or "text/plain"


def dump(metadata: Entity) -> bytes:
    """The metadata as the bytes of a file."""
    return (json.dumps(metadata, indent=1, ensure_ascii=False) + "\n").encode()
