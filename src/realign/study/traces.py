"""Reasoning traces as texts to probe: released sets to count, and sets to generate anew."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field, model_validator

from realign.study.base import Name, Section, setting
from realign.study.data import HubSource
from realign.study.errors import undeclared


class Endpoint(Section):
    """A model behind an OpenAI-compatible HTTP interface."""

    url: str = setting(
        ..., "The base of the interface, to which `/chat/completions` is added.", pattern=r"^https?://\S+$"
    )
    model: str = setting(..., "The model's name at this endpoint.")
    key_variable: str | None = setting(
        None, "The environment variable that holds the key; the key itself is never written anywhere."
    )
    timeout: float = setting(600.0, "Longest wait for one answer.", unit="seconds", gt=0)
    attempts: int = setting(
        5, "Tries for one answer when the endpoint is busy, fails or is out of reach.", ge=1
    )
    extra: dict[str, str | int | float | bool] = setting(
        {}, "Further fields of each request, such as enable_thinking or top_k where they are known there."
    )


class Generator(Section):
    """Who writes the traces, how, and how long they may be."""

    endpoint: Endpoint | None = setting(None, "A model behind an endpoint; else a backbone of the study.")
    backbone: Name | None = setting(None, "A backbone of the study that writes the traces on this machine.")
    system: str = setting(
        "You reason about mathematics with care and check each step.", "The system prompt of the generator."
    )
    user: str = setting(
        "Solve this problem step by step, and end with the final answer in \\boxed{{}}.\n\n{problem}",
        "The user prompt of the generator; {problem} stands for the problem, {{ and }} for braces.",
    )
    temperature: float = setting(0.6, "The sampling temperature; 0 is greedy.", ge=0)
    top_p: float = setting(0.95, "The mass that nucleus sampling keeps.", gt=0, le=1)
    top_k: int = setting(20, "Candidates that sampling keeps, of a backbone; 0 keeps all.", ge=0)
    max_tokens: int = setting(11_000, "Longest answer, reasoning included.", unit="tokens", ge=1)

    @model_validator(mode="after")
    def _usable(self) -> "Generator":
        if self.endpoint is not None and self.backbone is not None:
            raise ValueError("give an endpoint or a backbone, not both")
        check_prompt("user", self.user, ("problem",))
        return self


class Judge(Section):
    """A second model that says whether an answer is right; the reference is checked by rule anyway."""

    endpoint: Endpoint = Field(description="The judge.")
    system: str = setting(
        "You grade answers to mathematical problems. Reply with a single digit: 1 for right, 0 for wrong.",
        "The system prompt of the judge.",
    )
    user: str = setting(
        "Problem:\n{problem}\n\nRight answer:\n{reference}\n\nAnswer to grade:\n{answer}\n\nReply 1 or 0.",
        "The user prompt of the judge; it may hold {problem}, {answer} and {reference}.",
    )

    @model_validator(mode="after")
    def _usable(self) -> "Judge":
        check_prompt("user", self.user, ("answer",), ("problem", "reference"))
        return self


def check_prompt(name: str, prompt: str, needed: tuple[str, ...], allowed: tuple[str, ...] = ()) -> None:
    """Refuse a prompt that lacks a placeholder it needs or holds one that nothing fills."""
    try:
        prompt.format(**dict.fromkeys((*needed, *allowed), "x"))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{name}: not a usable prompt ({error!r}); write other braces twice") from None
    for word in needed:
        if "{" + word + "}" not in prompt:
            raise ValueError(f"{name}: the prompt does not hold {{{word}}}")


class TraceSet(Section):
    """One set of problems to reason about."""

    file: str = setting(..., "Problems: JSONL, Parquet or a saved dataset; a file that a rule makes will do.")
    problem: str = setting("problem", "The column with the problem.")
    reference: str = setting(
        "answer", "The column with the right answer, or with a solution that ends in it."
    )
    level: str = setting("", "A word for its difficulty, by which sets are counted together.")
    limit: int | None = setting(None, "Take at most this many problems, drawn by seed.", ge=1)
    max_characters: int | None = setting(
        10_400,
        "A trace with longer reasoning is skipped (the published cap of 8,000 was of characters / 1.3).",
        unit="characters",
        ge=1,
    )


class Traces(Section):
    """Sets of reasoning traces: which released ones are counted, and which are generated."""

    released: dict[Name, HubSource] = setting({}, "Released sets by name; they are fetched and counted.")
    sets: dict[Name, TraceSet] = setting({}, "Sets of problems to generate traces for, by name.")
    generator: Generator = Field(Generator(), description="Who writes the traces.")
    judge: Judge | None = setting(None, "A model that judges the answers; nothing leaves it to the rule.")
    at_once: int = setting(8, "Requests to an endpoint at the same time; makes nothing stale.", ge=1)

    def problems_in(self, study: Any) -> Iterator[str]:
        """What the sets need from the rest of the study."""
        asked, known = self.generator.backbone, study.backbones
        if asked is not None and asked not in known:
            yield f"traces.generator.backbone: {undeclared(asked, known)}"
        if self.sets and asked is None and self.generator.endpoint is None:
            yield "traces.generator: give an endpoint or a backbone to generate the sets with"
        for name in sorted(set(self.sets) & set(self.released)):
            yield f"traces.sets.{name}: a released set has this name too"

    def job(self, name: str, seed: int) -> "TraceJob":
        """The settings slice of one set."""
        return TraceJob(
            set=name, source=self.sets[name], generator=self.generator, judge=self.judge, seed=seed
        )


class TraceJob(Section):
    """What the rule that generates one set needs to know."""

    set: Name = setting("traces", "The set's name.")
    source: TraceSet = Field(description="The problems.")
    generator: Generator = Field(Generator(), description="Who writes the traces.")
    judge: Judge | None = setting(None, "Who judges them.")
    seed: int = setting(0, "The seed that draws problems and samples a backbone's tokens.", ge=0)
    at_once: int = setting(8, "Requests at the same time; makes nothing stale.", stales=False, ge=1)


class CountJob(Section):
    """What the rule that counts traces needs to know."""

    sets: tuple[Name, ...] = setting((), "The sets' names, in the order of the files.")
