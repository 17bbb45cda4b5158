"""The workflow's jobs as Snakemake's own API plans them: which would run, and why.

This is the one place that touches Snakemake's planning objects; tests pin what is used of them.
"""

import ast
import contextlib
import functools
import io
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.artifacts.provenance import read_provenance
from realign.runs.flow import have_a_cache
from realign.study.errors import nearest

TRIGGERS = ("mtime", "input", "params")  # and this size: as in every profile
CHECKSUM_BYTES = 200_000_000
VANISHED = "Unable to obtain modification time"  # as Snakemake says it
LOOKS = 10  # at files that a run changes meanwhile
FOLLOWS = "input files updated by another job"


@dataclass(frozen=True)
class PlannedJob:
    """A job that would run."""

    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    named_outputs: Mapping[str, str] = field(
        default_factory=dict
    )  # by the rule's names, which the command's are
    reasons: tuple[str, ...] = ()  # as Snakemake names them
    resources: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)  # its job parameter as last recorded
    now: Mapping[str, Any] = field(default_factory=dict)  # and as it is, where there was one before
    after: tuple[str, ...] = ()  # the names of the planned jobs whose outputs it takes
    input_count: int = 0

    @property
    def name(self) -> str:
        """The rule and its wildcards, as a person would name the job."""
        values = ", ".join(f"{k}={v}" for k, v in self.wildcards.items())
        return f"{self.rule}({values})" if values else self.rule

    @functools.cached_property
    def record(self) -> dict[str, Any] | None:
        """The provenance of what the job made last, where that is still there."""
        records = (read_provenance(Path(output)) for output in self.outputs)
        return next((record for record in records if record), None)

    @property
    def new_settings(self) -> bool:
        """Whether its settings are others than those it was last run with."""
        return bool(self.before) and self.before["settings"] != self.now["settings"]

    @property
    def new_code(self) -> bool:
        """Whether the code behind it is another than that it was last run with."""
        return bool(self.before) and self.before.get("code") != self.now.get("code")

    @property
    def follows(self) -> bool:
        """Whether it would run only because a job before it would."""
        return self.reasons == (FOLLOWS,) and not (self.new_settings or self.new_code)


def planned_jobs(
    snakefile: Path,
    workdir: Path,
    configfile: Path | None = None,
    config: Mapping[str, Any] | None = None,
    targets: Sequence[str] = (),
) -> list[PlannedJob]:
    """The jobs that `snakemake --dry-run` would list, with the reasons that Snakemake has.

    A run that goes on meanwhile deletes and makes files, and Snakemake gives up when one is gone that it has
    just seen; then the next look sees it gone.
    """
    for _ in range(LOOKS - 1):
        try:
            return _planned_jobs(snakefile, workdir, configfile, config, targets)
        except UserError as error:
            if VANISHED not in str(error):
                raise
            time.sleep(0.5)
    return _planned_jobs(snakefile, workdir, configfile, config, targets)


def _planned_jobs(
    snakefile: Path,
    workdir: Path,
    configfile: Path | None,
    config: Mapping[str, Any] | None,
    targets: Sequence[str],
) -> list[PlannedJob]:
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

    have_a_cache()
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
            return jobs_of(workflow._workflow.dag)
    except Exception as error:  # Snakemake raises many kinds; all mean that there is no plan
        # of what an input function raises Snakemake keeps the words alone
        if of_study := re.search(r"StudyError: (.+?)\nWildcards:", str(error), re.DOTALL):
            raise UserError(of_study[1]) from error
        if unknown := re.search(r"No rule to produce (\S+)", str(error)):
            hint = nearest(unknown[1], [rule.name for rule in workflow._workflow.rules])
            if Path(workdir, unknown[1]).is_dir():
                hint = "; it is a folder: where your study is in it, name the study's file"
            raise UserError(f"'{unknown[1]}' is no rule and no file that a rule makes{hint}") from error
        raise UserError(f"the workflow can't be planned: {error}\n{said.getvalue()}".rstrip()) from error


def jobs_of(dag: Any) -> list[PlannedJob]:
    """The jobs that would run, from the graph that Snakemake built; targets that make nothing left out."""
    jobs = [job for job in dag.needrun_jobs(exclude_finished=False) if not job.rule.norun]
    names = {job: PlannedJob(job.rule.name, dict(job.wildcards_dict)).name for job in jobs}
    return [_planned(dag, job, names) for job in jobs]


def _planned(dag: Any, job: Any, names: Mapping[Any, str]) -> PlannedJob:
    before = _recorded(dag, job)
    return PlannedJob(
        job.rule.name,
        dict(job.wildcards_dict),
        tuple(map(str, job.output)),
        {name: str(path) for name, path in job.output.items() if isinstance(path, str)},
        tuple(dag.reason(job).get_names()),
        {k: v for k, v in job.resources.items() if isinstance(v, int | float | str)},
        before,
        json.loads(job.params.job) if before else {},
        tuple(names[other] for other in dag.job_dependencies(job) if other in names),
        len(job.input),
    )


def _recorded(dag: Any, job: Any) -> dict[str, Any]:
    """The `job` parameter that Snakemake recorded when it last made the job's outputs.

    Asked of every job that would run: Snakemake itself compares no parameters of jobs that follow others.
    """
    for output in job.output:
        for text in dag.workflow.persistence.params(output) or ():
            try:
                value = json.loads(ast.literal_eval(text))  # recorded as its Python representation
            except (ValueError, SyntaxError, TypeError):
                continue  # some other parameter, or one that an earlier version wrote
            if isinstance(value, dict) and "settings" in value:
                return value
    return {}
