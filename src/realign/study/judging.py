"""Judges of mined negatives, and the two jobs that ask them: an audit of a sample, and relabelling."""

from typing import Any, Literal

from pydantic import field_validator, model_validator

from realign.study.base import Name, Section, setting


def _web_address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("an endpoint's address begins with http:// or https://")
    if "@" in url.split("/")[2]:
        raise ValueError("an address with a password in it would reach logs; use key_variable")
    if "?" in url or "#" in url:
        raise ValueError("an endpoint's address has no ? and no #, since requests go to paths below it")
    return url.rstrip("/")


class ChatJudge(Section):
    """A language model behind an OpenAI-compatible chat endpoint, asked once for each negative."""

    url: str = setting(..., "The endpoint's base address, such as http://localhost:8000/v1.")
    model: str = setting(..., "The model's name there.")
    key_variable: str | None = setting(
        None, "The environment variable with the key, which is never written anywhere; unset sends none."
    )
    question: str = setting(
        "A passage answers the query if it holds what the query asks for, wholly or in its main part.",
        "What counts as an answer, in the words that the judge reads.",
    )
    answer_tokens: int = setting(
        16, "The longest answer; a model that thinks aloud needs far more.", unit="tokens", ge=1
    )

    _url = field_validator("url")(_web_address)


class CrossEncoderJudge(Section):
    """A local cross-encoder: a passage that scores at least the threshold answers the query."""

    path: str = setting(..., "The cross-encoder's folder.")
    threshold: float = setting(0.5, "The least score of an answer, as the model gives it.")


class RuleJudge(Section):
    """Rules without a model: a passage that says what a positive says answers the query."""

    shared_words: float = setting(
        0.8, "The share of both texts' distinct words that they share, at least.", gt=0, le=1
    )


class Judge(Section):
    """Who says whether a mined negative answers its query after all: one of three."""

    chat: ChatJudge | None = setting(None, "A language model behind an endpoint.")
    cross_encoder: CrossEncoderJudge | None = setting(None, "A local cross-encoder.")
    rules: RuleJudge | None = setting(None, "Rules, without a model.")

    @model_validator(mode="after")
    def _one_judge(self) -> "Judge":
        if sum(one is not None for one in (self.chat, self.cross_encoder, self.rules)) > 1:
            raise ValueError("give one of chat, cross_encoder and rules")
        return self

    @property
    def given(self) -> bool:
        """Whether there is one."""
        return any(one is not None for one in (self.chat, self.cross_encoder, self.rules))


class Sampling(Section):
    """How an audit samples and groups."""

    sample: int = setting(500, "Mined negatives that are judged in each dataset.", unit="texts", ge=1)
    level: float = setting(0.95, "The level of the intervals.", gt=0, lt=1)
    groups: int = setting(4, "Groups of equal size by rank, and by margin.", ge=1, le=20)


class Audit(Sampling):
    """How often mined negatives are answers: a judge labels a random sample."""

    datasets: tuple[Name, ...] = setting((), "The mined datasets that are audited; none by default.")
    gold: str | None = setting(
        None,
        'A file of labels that are known, JSONL rows {"query": …, "passage": …, "answers": true}; the judge '
        "labels them too, and the rate is corrected for its errors.",
    )


class Relabelling(Section):
    """Which negatives are judged, and what becomes of those that answer their query."""

    judged: Literal["all", "riskiest"] = setting(
        "riskiest", "Every negative, or the mined ones of smallest margin."
    )
    share: float = setting(0.2, "The share of mined negatives that are the riskiest.", gt=0, le=1)
    answers: Literal["keep", "drop", "promote"] = setting(
        "drop",
        "What becomes of a negative that answers: it is only counted, taken out, or made a positive.",
    )
    least: int = setting(1, "Rows left with fewer negatives are dropped and counted.", unit="texts", ge=0)


class Relabel(Relabelling):
    """Whether and how mined negatives are judged and mended before training."""

    datasets: tuple[Name, ...] = setting((), "The mined datasets that are relabelled; none by default.")


class _Asking(Section):
    """What the jobs that ask a judge share."""

    study: str = setting("study", "The study's name, for the tidy table.")
    dataset: str = setting("dataset", "The dataset's name.")
    seed: int = setting(0, "The seed of the sample.", ge=0)
    judge: Judge = setting(Judge(), "Who judges.")
    key_variable: str | None = setting(
        None, "The environment variable with the endpoint's key; else judge.chat's own.", stales=False
    )
    requests_at_once: int = setting(8, "Requests to an endpoint at once.", stales=False, ge=1)
    timeout: float = setting(60.0, "How long one request may take.", unit="seconds", stales=False, gt=0)
    tries: int = setting(6, "How often a request is tried, with longer waits.", stales=False, ge=1)

    @model_validator(mode="after")
    def _has_judge(self) -> Any:
        if not self.judge.given:
            raise ValueError("no judge; give one of judge.chat, judge.cross_encoder and judge.rules")
        return self

    def as_slice(self) -> dict[str, Any]:
        """All that decides the result: where a key is found does not."""
        made = super().as_slice()
        if made["judge"]["chat"]:
            del made["judge"]["chat"]["key_variable"]
        return made


class AuditJob(Sampling, _Asking):
    """What auditing one dataset needs to know."""


class RelabelJob(Relabelling, _Asking):
    """What relabelling one dataset needs to know."""
