"""A commented study to start from: what a user must say, how to train, and which sections there are."""

from realign.study.kinds import KINDS
from realign.study.study import Study

HEAD = """\
# A study: which backbones to compare, trained how, judged by what.
# Plan it with `realign plan {file}`, run it with `realign run {file}`.
study:
  name: "{name}"
  seeds: [0]

# Where each backbone comes from: a hub (pin the revision), a folder, or a recipe that makes it here.
backbones:
  base:
    hub: deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B
    revision: ad9f0ae0864d7fbcd1cd905e3c6c5b069cc8b562
  reasoning:
    hub: nvidia/Nemotron-Research-Reasoning-Qwen-1.5B
    revision: b89048893f95246c6b5749b287f0049e6df42ee9

# What is compared with what; kind is one of {kinds}.
# The texts are small ones that come with Realign; `text.probes` names your own.
pairs:
  - {{left: base, right: reasoning, kind: rlvr}}

# So far only the backbones are compared. To train embedders from them and judge these, take away the '#'
# of the lines from 'data' to 'evaluation': your pairs, where negatives come from, a recipe, some tasks.
{training}
# Everything else has a default. These sections can be added; docs/configuration.md lists their settings:
"""

# What makes embedders of the starter's backbones; it stands in the file as comments.
TRAINING = """\
data:
  datasets:
    questions:
      file: questions.jsonl # or .parquet, or a dataset of the hub
      columns: {query: question, positive: answer}
      instruction: Given a question, retrieve its answer
mining:
  lexical: {} # by words, without a model; or teacher: {path: folder of a sentence-transformers model}
  negatives: 3
recipes:
  full:
    batches: {size: 64, negatives: 3, steps: 500}
    optimizer: {learning_rate: 2.0e-5}
evaluation:
  mteb_tasks: [STS12, SciFact]
  backbones: true # also without training, which shows what training gains
"""


def starter(file: str, name: str) -> str:
    """The text of a starter study."""
    training = "".join(f"# {line}\n" for line in TRAINING.splitlines())
    others = [
        f"#   {key:<16} {info.description}"
        for key, info in Study.model_fields.items()
        if key not in ("study", "backbones", "pairs")
    ]
    head = HEAD.format(file=file, name=name, kinds=", ".join(KINDS), training=training)
    return "\n".join([head.rstrip("\n"), *others, ""])
