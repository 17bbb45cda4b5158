"""A commented study to start from, made from the sections themselves.

What a user must say stands there as YAML; every other setting stands as a comment with its
sentence, its unit and its default, so that changing one is taking its '#' away.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from realign.study.kinds import KINDS
from realign.study.study import Study

HEAD = """\
# A study: which backbones to compare, trained how, judged by what.
# Plan it with `realign plan --configfile {file}`, run it with `realign run {file}`.
study:
  name: "{name}"
  seeds: [0]

# Where each backbone comes from: a hub (pin the revision), a folder, or a recipe that makes it here.
backbones:
  base: {{hub: Qwen/Qwen2.5-0.5B, revision: 060db6499f32faf8b98477b0a26969ef7d8b9987}}
  reasoning: {{hub: hkust-nlp/Qwen-2.5-0.5B-SimpleRL-Zoo}} # no commit is known: pin what the log names

# What is compared with what; kind is one of {kinds}.
pairs:
  - {{left: base, right: reasoning, kind: rlvr}}

# So far only the backbones are compared. To train embedders from them and judge these, take away the '#'
# of the lines from 'data' to 'evaluation': your pairs, where negatives come from, a recipe, some tasks.
{training}
# Every other setting, with its default. A section that stands above is there once: add to it.

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
    lines = [HEAD.format(file=file, name=name, kinds=", ".join(KINDS), training=training)]
    for key, info in Study.model_fields.items():
        if key in ("study", "backbones", "pairs"):
            continue
        lines.append(f"# --- {key}: {info.description}")
        default = info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            lines.append(f"# {key}:")
            lines += [f"# {line}" for line in _settings(default, 1)]
        else:
            lines.append(f"# {key}: {_flow(default)}")
        lines.append("")
    return "\n".join(lines)


def _settings(section: BaseModel, depth: int) -> Iterator[str]:
    pad = "  " * depth
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        extra = info.json_schema_extra
        unit = f" [{extra['unit']}]" if isinstance(extra, dict) and "unit" in extra else ""
        yield f"{pad}# {info.description}{unit}"
        if isinstance(value, BaseModel):
            yield f"{pad}{name}:"
            yield from _settings(value, depth + 1)
        else:
            yield f"{pad}{name}: {_flow(value)}"


def _flow(value: Any) -> str:
    """A default on one line, as YAML reads it (JSON is YAML)."""
    if value is PydanticUndefined:
        return "{}"
    return json.dumps(value, default=plain, ensure_ascii=False)


def plain(value: Any) -> Any:
    """A default's parts as JSON has them."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else list(value)
