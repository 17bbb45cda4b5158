"""States of SLURM jobs in which they have ended, as Snakemake's SLURM executor should read them.

The executor takes a preempted job for one that SLURM will run again. We forbid that, because it would
write outputs behind the workflow's back, so such a job has ended: left alone, the run would wait for it
for ever. A cancelled job's state names who cancelled it, and is not known for one either.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

Query = Callable[..., Awaitable[tuple[dict[str, str] | None, float | None]]]


def read_states_as_ended() -> None:
    """Make the executor, where it is loaded, see that preempted and cancelled jobs are over."""
    executor: Any = sys.modules.get("snakemake_executor_plugin_slurm")
    if executor and executor.query_job_status.__module__ != __name__:
        executor.query_job_status = telling_the_ended(executor.query_job_status)


def telling_the_ended(query: Query) -> Query:
    """The executor's question to the cluster, its answers put right."""

    async def query_job_status(*words: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await query(*words)
        return states and {job: as_ended(state) for job, state in states.items()}, seconds

    return query_job_status


def as_ended(state: str) -> str:
    """A state by a name that the executor knows for a failure."""
    word = state.split()[0] if state.split() else state
    return "CANCELLED" if word == "PREEMPTED" else word
