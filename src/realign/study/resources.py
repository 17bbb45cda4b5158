"""What jobs may use: threads, memory, time and GPUs, by rule and, where it matters, by backbone.

None of it makes anything stale: it says how a result is made, never what it is.
"""

from collections.abc import Iterator
from typing import Any

from realign.commands import STAGES
from realign.study.base import Name, Section, setting
from realign.study.errors import nearest, undeclared


class RuleResources(Section):
    """The resources of one rule's jobs; what is left out keeps the rule's own default."""

    threads: int | None = setting(None, "CPU threads of a job, on each of its nodes.", unit="threads", ge=1)
    memory_gb: float | None = setting(None, "Memory of a job, on each of its nodes.", unit="GB", gt=0)
    gpus: int | None = setting(None, "GPUs of a job, on each of its nodes.", unit="GPUs", ge=0)
    gpu_model: str | None = setting(None, "The kind of GPU to ask for, as the cluster names it.")
    gpu_memory_gb: float | None = setting(
        None, "The memory of one GPU, which a plan sets beside the need of a training.", unit="GB", gt=0
    )
    nodes: int | None = setting(None, "Nodes of a job (training only).", unit="nodes", ge=1)
    hours: float | None = setting(None, "The time limit of a job on a cluster.", unit="hours", gt=0)
    warning_seconds: int | None = setting(
        None,
        "How long before its time limit the cluster warns a job, which then saves; unset is the profile's "
        "300 s. A training needs the time of a step and a save.",
        unit="seconds",
        ge=1,
    )
    usual_hours: float | None = setting(
        None,
        "What a job usually takes: its cost in plans until it has been measured; its limit where unset.",
        unit="hours",
        gt=0,
    )
    partition: str | None = setting(None, "The cluster's partition for these jobs.")
    account: str | None = setting(None, "The account that these jobs are charged to.")
    qos: str | None = setting(None, "The cluster's quality of service for these jobs.")
    constraint: str | None = setting(None, "Features that their nodes must have, as the cluster names them.")
    reservation: str | None = setting(None, "The reservation to run in.")
    exclude: str | None = setting(None, "Nodes that these jobs must not run on.")
    exclusive: bool | None = setting(None, "Whether a job has its nodes for itself.")
    licences: str | None = setting(None, "Licences that a job takes, as the cluster names them.")
    mail: str | None = setting(None, "An address that hears of a job's end and failure.")
    flags: str | None = setting(
        None, "Further words for the cluster's submission, such as `--comment=mine`; the profile's stay."
    )

    def over(self, below: "RuleResources") -> "RuleResources":
        """These resources, with `below` where they say nothing."""
        return below.model_copy(update=self.model_dump(exclude_none=True))


class Resources(Section):
    """Resources by rule, and by backbone for the models that need more."""

    rules: dict[Name, RuleResources] = setting({}, "By rule name, for every job of that rule.")
    backbones: dict[Name, dict[Name, RuleResources]] = setting(
        {}, "By backbone and rule name: over what `rules` says."
    )

    redo_gpu_hours: float = setting(
        8.0,
        "A run that would redo more than this because of code alone stops at its start and names the "
        "modules; `--config accept_cost=HOURS` lets it go on.",
        unit="GPU-hours",
        ge=0,
    )

    redo_cpu_hours: float = setting(
        64.0,
        "The same for jobs that need no GPU: their hours times their threads.",
        unit="CPU-hours",
        ge=0,
    )

    def problems_in(self, study: Any) -> Iterator[str]:
        """Names of rules and backbones that do not exist, whose limits would be lost in silence."""
        given = [("rules", self.rules), *((f"backbones.{n}", r) for n, r in self.backbones.items())]
        for where, rules in given:
            for rule in rules:
                if rule not in STAGES:
                    yield f"resources.{where}.{rule}: no rule '{rule}'{nearest(rule, STAGES)}"
                elif "--signal" in (rules[rule].flags or ""):
                    yield f"resources.{where}.{rule}.flags: use warning_seconds in place of --signal"
                elif rule != "train" and (rules[rule].nodes or 1) > 1:
                    yield f"resources.{where}.{rule}.nodes: only train works on several nodes"
        for name in self.backbones:
            if name not in study.backbones:
                yield f"resources.backbones.{name}: {undeclared(name, study.backbones)}"

    def named(self, rule: str) -> list[RuleResources]:
        """Everything that the study says of a rule, in general and for single backbones."""
        special = [rules[rule] for rules in self.backbones.values() if rule in rules]
        return [*([self.rules[rule]] if rule in self.rules else []), *special]

    @property
    def most_gpus(self) -> int:
        """The most GPUs on one node that the study asks for any job."""
        sections = [self.rules, *self.backbones.values()]
        return max((asked.gpus or 0 for rules in sections for asked in rules.values()), default=0)

    def differ(self, rule: str) -> bool:
        """Whether the study asks something else of a rule's jobs on some backbone."""
        return any(rule in rules for rules in self.backbones.values())

    def of(self, rule: str, backbone: str | None = None) -> RuleResources:
        """The resources that the study asks for a rule's jobs on a backbone."""
        general = self.rules.get(rule, RuleResources())
        special = self.backbones.get(backbone or "", {}).get(rule, RuleResources())
        return special.over(general)
