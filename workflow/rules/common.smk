# What every rule file uses: the study, the root of its results, and how a rule calls its command.

import functools
from pathlib import Path

from realign.artifacts.hashing import canonical_json
from realign.commands import load_command
from realign.runs.flow import WILDCARDS, open_study
from realign.runs.frozen import freeze, name_run

STUDY = open_study(
    Path(workflow.basedir) / "config.yaml",
    workflow.config_settings.configfiles,
    workflow.config_settings.config,
)
R = f"results/{STUDY.study.name}"
# Where a command keeps its work.
STORE = f"{R}/.work"


# What `apptainer build realign.sif` makes by envs/Dockerfile; used only when containers are asked for.
container: "realign.sif"


wildcard_constraints:
    **WILDCARDS,


@functools.cache
def code_of(command):
    return load_command(command).code


def job(command, section):
    """A rule's one parameter: its command's settings, the code behind it, and where it may work."""
    return canonical_json(
        {"settings": section.as_slice(), "code": code_of(command), "store": STORE}
    )


def artifact(path):
    """A large artifact as an input: its manifest decides, its data must merely be there."""
    return dict(manifest=path + ".manifest.json", data=ancient(path))


# What `all` asks for, by stage; each rule file adds its own. Large artifacts are listed with their
# data, so that deleted weights are noticed behind an intact manifest.
TARGETS = {}


def with_manifest(path):
    """A large artifact as targets: its data and its manifest."""
    return [path, path + ".manifest.json"]


# A run's study and code are frozen when it starts; its jobs find the record by environment.
RUN_RECORD = name_run(Path(R) / ".runs")


onstart:
    freeze(RUN_RECORD, STUDY.model_dump(mode="json"))
