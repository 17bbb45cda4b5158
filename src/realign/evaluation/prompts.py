"""Which words go before a text: the task's instruction, the model's own prompts, or none.

With `task`, a query gets its task's instruction through the template and a passage gets nothing
unless the study says so; a task without passages (similarity, classification, clustering) treats
every text as a query. With `model`, the prompts of the model's directory are looked up exactly as
mteb and sentence-transformers do it together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mteb.abstasks.abstask import get_abstask_prompt
from mteb.models.abs_encoder import get_prompt_name

from realign.artifacts.hashing import hash_json
from realign.study.evaluation import EvaluateTask, Instruction


@dataclass(frozen=True)
class PromptPlan:
    """How the prompts of one task's evaluation are found."""

    mode: str
    template: str = ""
    instruction: Instruction | None = None
    taught_by: Any = None  # the metadata of the task whose own instruction is used
    own: Mapping[str, str] = field(default_factory=dict)
    default: str = ""  # the model's own prompt for texts that are neither queries nor documents

    @classmethod
    def of(
        cls, settings: EvaluateTask, own: Mapping[str, str], taught_by: Any = None, default: str = ""
    ) -> "PromptPlan":
        """The plan that a job's settings ask for."""
        template = settings.template if settings.instructions == "task" else ""
        return cls(settings.instructions, template, settings.instruction, taught_by, own, default)

    def prompt(self, task: Any, prompt_type: Any) -> str:
        """The words that go before a task's texts of that kind."""
        role = prompt_type.value if prompt_type else "text"
        if self.mode == "none":
            return ""
        if self.mode == "model":
            return self._model_prompt(task, prompt_type)
        words = self._instruction(task, role)
        return self.template.replace("{instruction}", words) if words else ""

    def _instruction(self, task: Any, role: str) -> str:
        if self.instruction is not None:
            return self.instruction.passage if role == "document" else self.instruction.query
        return "" if role == "document" else own_instruction(self.taught_by or task)

    def _model_prompt(self, task: Any, prompt_type: Any) -> str:
        name = get_prompt_name(dict(self.own), task, prompt_type)
        if name is not None:
            return self.own[name]
        # sentence-transformers has a prompt, if an empty one, for queries and for documents
        return "" if prompt_type else self.default


def own_instruction(task: Any) -> str:
    """A task's own instruction for queries, as mteb has it: the task's, else its type's."""
    given = task.prompt
    if isinstance(given, Mapping):
        given = given.get("query")
    return given or get_abstask_prompt(task.name)


def prompt_hash(prefixed: Mapping[str, str]) -> str:
    """A short identity of what was really prefixed, by kind of text."""
    return hash_json(dict(prefixed))[:12]
