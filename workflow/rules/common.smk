# What every rule file uses: the study, the root of its results, and how a rule calls its command.

import gc
from pathlib import Path

# A plan is many objects that live as long as the run. Looking through them for garbage again and again
# takes a quarter of the time of planning 5,000 jobs, and finds none.
gc.freeze()
gc.set_threshold(100_000, 50, 100)

from realign.runs.flow import (
    WILDCARDS,
    Flow,
    find_commands,
    module_study,
    open_study,
    own_file,
    with_manifest,
)
from realign.runs.leaving import (
    SHELL_PREFIX,
    hand_signals_on,
    live_through_warnings,
)
from realign.runs.site import source_site

# As a module of another workflow, this one has a namespace, its study is the module's `config:`, its rules
# have other names and its results another place.
MODULE = workflow.modifier
STUDY = (
    module_study(MODULE.namespace, config)
    if MODULE.namespace
    else open_study(
        workflow.config_settings.configfiles, workflow.config_settings.config
    )
)
FLOW = Flow(
    STUDY,
    (
        None
        if workflow.dryrun
        else lambda rule, wildcards: Path(
            workflow.get_rule(MODULE.modify_rulename(rule)).expand_log(wildcards)[0]
        )
    ),
    workflow.resource_settings.default_resources,
    placed=lambda path: str(MODULE.modify_path(path)),
)
R = FLOW.results
# Where a path that rules name is: a module's results may have another place.
placed = lambda path: Path(MODULE.modify_path(path))
RUN_RECORD = FLOW.record()

find_commands()

# A warning before a time limit, a preemption or scancel reaches every process of a job, or only the
# first. The command answers it; the shell and the workflow around it wait until it has saved its work.
shell.prefix(SHELL_PREFIX + source_site())
live_through_warnings()
if not workflow.is_main_process:
    hand_signals_on()

# A rule's one parameter: its command's settings slice and the code behind it.
job = FLOW.job

# A rule's threads and resources: its own defaults unless the study says otherwise.
limits = FLOW.limits
threads_of = FLOW.threads

# A large artifact as an input: its manifest decides, its data must merely be there.
artifact = lambda path: dict(manifest=f"{path}.manifest.json", data=ancient(path))

# A user's own file as an input, by the setting that names it. It stays where it is when a module's results
# are placed elsewhere.
own = lambda setting, path: local(own_file(workflow.rules, setting, path))

# What `all` asks for, by stage; each rule file adds its own. Large artifacts are listed with their
# data, so that deleted weights are noticed behind an intact manifest.
TARGETS = {}
# Read only where it is asked for: a large study has thousands.
targets_of = lambda stage: lambda wc: TARGETS[stage]


# What `apptainer build realign.sif` makes by envs/Dockerfile; used only when containers are asked for.
container: "realign.sif"


wildcard_constraints:
    **WILDCARDS,


# No run starts while jobs of an earlier one, whose Snakemake was killed, are still in the cluster's queue,
# nor one that would redo much because of code alone. A run's study and code are frozen when it starts;
# its jobs find the record by environment. Its journal tells `realign status` what happens.
# What only a run needs is imported here: a plan is made without it.
onstart:
    from realign.engine.zygote import hatch
    from realign.runs.dag import jobs_of
    from realign.runs.frozen import freeze, hand_on
    from realign.runs.guard import guard
    from realign.runs.journal import keep_journal
    from realign.runs.attempts import give_up_what_a_user_must_mend
    from realign.runs.output import show_plan
    from realign.runs.queue import name_in_queue, refuse_doubles
    from realign.runs.slurm import put_right

    refuse_doubles(RUN_RECORD.parent, queued=not workflow.local_exec)
    put_right(workflow)
    planned = jobs_of(workflow.dag)
    guard(planned, STUDY, workflow.config_settings.config)
    show_plan(workflow, planned, STUDY)
    freeze(RUN_RECORD, STUDY.model_dump(mode="json"), name_in_queue(workflow))
    if workflow.local_exec:
        hatch()  # so that small jobs need not import the libraries each for itself
        hand_signals_on(stop=workflow.scheduler.exit_gracefully)
    hand_on(RUN_RECORD, workflow)
    give_up_what_a_user_must_mend(workflow.scheduler)
    keep_journal(RUN_RECORD, workflow.dag)


onsuccess:
    from realign.runs.journal import end_journal

    end_journal(success=True)


onerror:
    from realign.runs.journal import end_journal

    end_journal(success=False)
