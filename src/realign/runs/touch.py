"""`realign touch`: say that a change of code does not matter for the results of a stage.

The sealed work of the stage's jobs is taken over under the key that the new code asks for, with the
change and the reason in its provenance. The next run publishes it again in seconds; nothing is redone.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.artifacts.store import WorkStore
from realign.commands import DONE_BY, STAGES, load_command
from realign.runs.causes import changed_modules, modules_now
from realign.runs.dag import PlannedJob
from realign.runs.flow import find_snakefile, read_config
from realign.runs.kept import key_of
from realign.runs.plan import planned


def main(words: Sequence[str]) -> int:
    """Accept a change of code for the results of some stages."""
    parser = argparse.ArgumentParser("realign touch", description=__doc__, allow_abbrev=False)
    parser.add_argument("--stage", nargs="+", required=True, choices=list(STAGES), metavar="RULE")
    parser.add_argument("--reason", required=True, help="why the change does not matter, for the provenance")
    parser.add_argument("--configfile", type=Path, help="the study (default: config.yaml)")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the study")
    parser.add_argument("--snakefile", type=Path, help="the workflow (default: this project's Snakefile)")
    arguments = parser.parse_args(words)
    if not arguments.reason.strip():
        raise UserError("--reason: say in a few words why the change does not matter")
    snakefile = arguments.snakefile or find_snakefile()
    _, jobs = planned(snakefile, arguments.configfile, read_config(arguments.config))
    asked = [job for job in jobs if DONE_BY.get(job.rule, job.rule) in arguments.stage]
    said = touch(asked, arguments.reason.strip())
    if not said:
        raise UserError(f"no job of {', '.join(arguments.stage)} is stale because of its own code")
    for line, count in said.items():
        print(f"{count:>5}  {line}")
    return 0


def touch(jobs: Sequence[PlannedJob], reason: str) -> Counter[str]:
    """Accept the changed code of these jobs, as far as that can be; what was done, with job counts."""
    return Counter(f"{job.rule}: {_accept(job, reason)}" for job in jobs if job.new_code)


def _accept(job: PlannedJob, reason: str) -> str:
    if job.new_settings:
        return "left stale, since its settings changed too"
    record = job.record
    if record is None:
        return "left stale, since the provenance of what it made is gone"
    command = load_command(record["command"])
    if record.get("formats", command.formats) != command.formats:
        return "left stale, since it writes another format now"
    store = WorkStore(Path(job.now["store"]))
    old = store.work(record["command"], record["key"])
    modules = changed_modules(job)
    key = key_of(job, record)
    if not old.hand_over(store.work(record["command"], key), _accepted(job, record, key, modules, reason)):
        return "left stale, since its finished work was pruned from the store"
    return f"accepted ({', '.join(modules)})"


def _accepted(
    job: PlannedJob, record: Mapping[str, Any], key: str, modules: Sequence[str], reason: str
) -> dict[str, Any]:
    """The provenance of work that stands for new code: what changed, and why that is said not to matter."""
    change = {
        "made_with_code": record["code"],
        "changed_modules": list(modules),
        "reason": reason,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {
        **record,
        "key": key,
        "code": job.now["code"],
        "modules": dict(modules_now(record["command"])),
        "accepted": [*record.get("accepted", []), change],
    }
