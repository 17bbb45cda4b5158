"""The workflow's jobs as Snakemake's own API plans them: which would run, and why.

This is the one place that touches Snakemake's planning objects; tests pin what is used of them.
"""

import ast
import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError

TRIGGERS = ("mtime", "input", "params")  # and this size: as in every profile
CHECKSUM_BYTES = 200_000_000


@dataclass(frozen=True)
class PlannedJob:
    """A job that would run."""

    rule: str
    wildcards: Mapping[str, str]
    outputs: tuple[str, ...]
    reasons: tuple[str, ...]
    follows: bool  # only because a job before it would run
    resources: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)  # its job parameter as last recorded
    now: Mapping[str, Any] = field(default_factory=dict)
    input_count: int = 0

    @property
    def name(self) -> str:
        """The rule and its wildcards, as a person would name the job."""
        values = ", ".join(f"{k}={v}" for k, v in self.wildcards.items())
        return f"{self.rule}({values})" if values else self.rule


def planned_jobs(
    snakefile: Path,
    workdir: Path,
    configfile: Path | None = None,
    config: Mapping[str, Any] | None = None,
    targets: Sequence[str] = (),
) -> list[PlannedJob]:
    """The jobs that `snakemake --dry-run` would list, with the reasons that Snakemake has."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        Quietness,
        RerunTrigger,
        ResourceSettings,
        StorageSettings,
    )

    triggers = frozenset(RerunTrigger.parse_choice(t) for t in TRIGGERS)
    said = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
            SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api,
        ):
            workflow = api.workflow(
                ResourceSettings(cores=1),
                config_settings=ConfigSettings(
                    config=dict(config or {}), configfiles=[configfile] if configfile else []
                ),
                storage_settings=StorageSettings(),
                snakefile=snakefile,
                workdir=workdir,
            )
            workflow.dag(
                DAGSettings(
                    targets=set(targets),
                    rerun_triggers=triggers,
                    force_incomplete=True,
                    max_checksum_file_size=CHECKSUM_BYTES,
                )
            ).execute_workflow(executor="dryrun")
            dag = workflow._workflow.dag
            jobs = dag.needrun_jobs(exclude_finished=False)
            return [_planned(dag, job) for job in jobs if not job.rule.norun]
    except Exception as error:  # Snakemake raises many kinds; all mean that there is no plan
        raise UserError(f"the workflow can't be planned: {error}\n{said.getvalue()}".rstrip()) from error


def _planned(dag: Any, job: Any) -> PlannedJob:
    reason = dag.reason(job)
    names = tuple(reason.get_names())
    changes = reason.params_changed
    return PlannedJob(
        job.rule.name,
        dict(job.wildcards_dict),
        tuple(map(str, job.output)),
        names,
        names == ("input files updated by another job",),
        {k: v for k, v in job.resources.items() if isinstance(v, int | float | str)},
        _job_parameter(getattr(changes, "only_old", ())),
        _job_parameter(getattr(changes, "only_new", ())),
        len(job.input),
    )


def _job_parameter(recorded: Any) -> dict[str, Any]:
    """The `job` parameter among those that Snakemake recorded (as their Python representation)."""
    for text in recorded or ():
        try:
            value = json.loads(ast.literal_eval(text))
        except (ValueError, SyntaxError, TypeError):
            continue  # some other parameter, or one that an earlier version wrote
        if isinstance(value, dict) and "settings" in value:
            return value
    return {}
