"""The table of commands: what each is called, where it is declared, what it does.

The command line, the workflow and the plan all read this table; nothing in it is imported until
it is asked for.
"""

import importlib
from typing import Any

# name → (where its `Command` is declared, what it does), in the order the data flows
STAGES: dict[str, tuple[str, str]] = {
    "fetch_dataset": ("realign.text.commands:FETCH_DATASET", "Fetch a hub dataset at its pinned revision."),
    "corpora": ("realign.text.commands:CORPORA", "Make corpora from the installed packages' text."),
    "problems": ("realign.text.commands:PROBLEMS", "Make reasoning problems with worked traces."),
    "pairs": ("realign.text.commands:PAIRS", "Make one training dataset's raw pairs."),
    "probe_corpus": ("realign.text.commands:PROBE_CORPUS", "Make one probe corpus."),
}

# name → (a function `main(words) -> exit code`, what it does)
TOOLS: dict[str, tuple[str, str]] = {
    "text": ("realign.text.tool:main", "Statistics and checks of pairs and texts: realign text stats FILE."),
    "init": ("realign.study.starter:main", "Write a commented study to start from."),
    "plan": ("realign.runs.plan:main", "Say what a run would do, why, and what it would cost."),
    "where": ("realign.runs.tools:where", "Say where a study's results are."),
    "show": ("realign.runs.tools:show", "Say where a file came from and what it was made of."),
    "store": ("realign.runs.tools:store", "List or prune the work that commands keep."),
}


def resolve(reference: str) -> Any:
    """What a `module:name` reference points at."""
    module, name = reference.split(":")
    return getattr(importlib.import_module(module), name)


def load_command(name: str) -> Any:
    """The `Command` of a stage."""
    return resolve(STAGES[name][0])
