"""Which planned jobs cost nothing: their work is sealed, so they only publish it again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.store import Seal, WorkStore, work_key
from realign.runs.dag import PlannedJob

OTHER_INPUTS = {"updated input files", "set of input files has changed since last execution"}


def key_of(job: PlannedJob, record: dict[str, Any], published: Mapping[str, str] | None = None) -> str:
    """The key of a job's work as it is asked for now, on the inputs that it was last made from.

    Where other jobs publish some of them anew, `published` holds their hashes by path.
    """
    new = published or {}
    hashes = {
        name: [new.get(entry["path"], entry["hash"]) for entry in given]
        for name, given in record["inputs"].items()
    }
    return work_key(record["command"], hashes, job.now["settings"], job.now["code"])


def kept_jobs(jobs: Sequence[PlannedJob]) -> set[str]:
    """The names of the jobs whose work is kept for the very inputs that they will get.

    A job after another one counts only if that one is kept too: what it will publish is known then, and so
    is the key of what follows. More can be known only once it has run.
    """
    by_name = {job.name: job for job in jobs}
    known: dict[str, Mapping[str, str] | None] = {}  # of a kept job, the hashes of what it publishes anew

    def look(job: PlannedJob) -> Mapping[str, str] | None:
        if job.name not in known:
            known[job.name] = None
            above = [look(by_name[name]) for name in job.after]
            certain = [published for published in above if published is not None]
            if not OTHER_INPUTS & set(job.reasons) and len(certain) == len(above):
                known[job.name] = _kept(job, {path: sha for one in certain for path, sha in one.items()})
        return known[job.name]

    return {job.name for job in jobs if look(job) is not None}


def _kept(job: PlannedJob, published: Mapping[str, str]) -> Mapping[str, str] | None:
    """The hashes of what a job will publish, by path, if its work is sealed; nothing where it is not.

    Outputs that are as they were are left out. An output that has no name has an empty hash: it is another
    one, and nobody knows which.
    """
    record = job.record
    if not job.before or record is None or not _inputs_known(record, published):
        return None
    store = WorkStore(Path(job.now["store"]))
    now = _seal(store, record["command"], key_of(job, record, published))
    if now is None:
        return None
    then = _seal(store, record["command"], record["key"])
    if then is not None and then.outputs == now.outputs:
        return {}
    named = {path: now.outputs[n].hash for n, path in job.named_outputs.items() if n in now.outputs}
    return dict.fromkeys(job.outputs, "") | named


def _inputs_known(record: Mapping[str, Any], published: Mapping[str, str]) -> bool:
    """Whether the hash of each input is known: it is none of a folder that is published anew, say."""
    paths = [Path(entry["path"]) for given in record["inputs"].values() for entry in given]
    return all(
        published.get(str(path), "as before") and not any(str(above) in published for above in path.parents)
        for path in paths
    )


def _seal(store: WorkStore, command: str, key: str) -> Seal | None:
    return store.work(command, key).peek()
