"""Which planned jobs cost nothing: their work is sealed, so they only publish it again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.store import Seal, WorkStore, work_key
from realign.runs.dag import PlannedJob

OTHER_INPUTS = {"updated input files", "set of input files has changed since last execution"}


def key_of(job: PlannedJob, record: dict[str, Any]) -> str:
    """The key of a job's work as it is asked for now, on the inputs that it was last made from."""
    hashes = {name: [entry["hash"] for entry in given] for name, given in record["inputs"].items()}
    return work_key(record["command"], hashes, job.now["settings"], job.now["code"])


def kept_jobs(jobs: Sequence[PlannedJob]) -> set[str]:
    """The names of the jobs whose work is kept for the very inputs that they will get.

    A job after another one counts only if that one is kept too and publishes the same bytes as before;
    more can be known only once it has run.
    """
    by_name = {job.name: job for job in jobs}
    known: dict[str, tuple[bool, bool]] = {}  # kept, and with the same outputs as before

    def look(job: PlannedJob) -> tuple[bool, bool]:
        if job.name not in known:
            same_inputs = not OTHER_INPUTS & set(job.reasons) and all(
                look(by_name[name])[1] for name in job.after
            )
            known[job.name] = _kept(job) if same_inputs else (False, False)
        return known[job.name]

    return {job.name for job in jobs if look(job)[0]}


def _kept(job: PlannedJob) -> tuple[bool, bool]:
    record = job.record
    if not job.before or record is None:
        return False, False
    store = WorkStore(Path(job.now["store"]))
    now = _seal(store, record["command"], key_of(job, record))
    then = _seal(store, record["command"], record["key"])
    return now is not None, now is not None and then is not None and now.outputs == then.outputs


def _seal(store: WorkStore, command: str, key: str) -> Seal | None:
    return store.work(command, key).peek()
