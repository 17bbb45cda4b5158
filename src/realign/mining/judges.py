"""Judges: who says whether a passage answers a query that it was mined as a negative for."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from realign.artifacts.command import Job, UserError
from realign.artifacts.manifest import content_hash
from realign.engine.progress import Progress
from realign.mining.answers import Answers, Label, question_key
from realign.mining.endpoint import Endpoint
from realign.study.judging import ChatJudge, CrossEncoderJudge, RuleJudge
from realign.text.pairs import PairRow

log = logging.getLogger(__name__)
SCORED_AT_ONCE = 256
ASKED_AGAIN = 2  # times that a chat model is asked, until it says yes or no
LEAST_WORDS = 3  # of a text that is looked for in another: nearly every passage holds a shorter one
SYSTEM = (
    "You judge search results. {question} You are given a query, one passage that is known to answer it, "
    "and a candidate passage. Say whether the candidate answers the query as well. Reply with one word: yes "
    "or no."
)
USER = (
    "Query: {query}\n\nKnown answer: {positive}\n\nCandidate: {passage}\n\n"
    "Does the candidate answer the query?"
)


class Question(NamedTuple):
    """What a judge is asked about."""

    query: str
    positive: str  # a passage that answers the query; empty where none is known
    passage: str


class Judge(Protocol):
    """Labels questions; equal identities give answers that stand for one another."""

    def identity(self) -> dict[str, Any]:
        """All that decides a label."""
        ...

    def label(self, questions: Sequence[Question]) -> Iterator[tuple[int, Label]]:
        """Each question's place with its label, as they come."""
        ...


class ChatModel:
    """A language model behind an OpenAI-compatible chat endpoint."""

    def __init__(self, settings: ChatJudge, endpoint: Endpoint, at_once: int):
        self.settings, self.endpoint, self.at_once = settings, endpoint, at_once

    def identity(self) -> dict[str, Any]:
        """The endpoint, the model, and the words it reads."""
        own = self.settings.model_dump(mode="json", exclude={"key_variable"})
        return {"kind": "chat", "prompts": [SYSTEM, USER], **own}

    def label(self, questions: Sequence[Question]) -> Iterator[tuple[int, Label]]:
        """Labels as the endpoint gives them, several requests at once."""
        with ThreadPoolExecutor(self.at_once) as pool:
            waiting = {pool.submit(self._ask, question): i for i, question in enumerate(questions)}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            except BaseException:
                self.endpoint.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _ask(self, question: Question) -> Label:
        body = {
            "model": self.settings.model,
            "temperature": 0,
            "max_tokens": self.settings.answer_tokens,
            "messages": [
                {"role": "system", "content": SYSTEM.format(question=self.settings.question)},
                {"role": "user", "content": USER.format(**question._asdict())},
            ],
        }
        for _ in range(ASKED_AGAIN):
            label = understood(self.endpoint.post("chat/completions", body))
            if label is not None:
                return label
        return None


def understood(answer: Any) -> Label:
    """Yes or no of a chat completion; nothing where it says neither."""
    said = answer["choices"][0]["message"].get("content")
    word = re.match(r"[\W_]*(yes|no)\b", str(said or "").rpartition("</think>")[2], re.IGNORECASE)
    return None if word is None else word[1].lower() == "yes"


class CrossEncoder:
    """A local cross-encoder with a threshold."""

    def __init__(self, settings: CrossEncoderJudge, folder: Path):
        self.settings, self.folder = settings, folder

    def identity(self) -> dict[str, Any]:
        """The model's content and the threshold."""
        threshold = self.settings.threshold
        return {"kind": "cross-encoder", "model": content_hash(self.folder), "threshold": threshold}

    def label(self, questions: Sequence[Question]) -> Iterator[tuple[int, Label]]:
        """Labels by the score alone."""
        from sentence_transformers import CrossEncoder as Loaded

        model: Any = Loaded(str(self.folder), trust_remote_code=False, local_files_only=True)
        for start in range(0, len(questions), SCORED_AT_ONCE):
            some = [(q.query, q.passage) for q in questions[start : start + SCORED_AT_ONCE]]
            scores = model.predict(some, show_progress_bar=False).reshape(-1)
            for i, score in enumerate(scores.tolist(), start):
                yield i, score >= self.settings.threshold


class Rules:
    """What needs no model: a passage that holds a positive's words."""

    def __init__(self, settings: RuleJudge):
        self.settings = settings

    def identity(self) -> dict[str, Any]:
        """The settings, and how short a text may be."""
        return {"kind": "rules", "least_words": LEAST_WORDS, **self.settings.model_dump(mode="json")}

    def label(self, questions: Sequence[Question]) -> Iterator[tuple[int, Label]]:
        """One text within the other, or most words in both."""
        for i, question in enumerate(questions):
            texts = (question.passage, question.positive)
            passage, positive = (re.findall(r"\w+", text.casefold()) for text in texts)
            one, other = set(passage), set(positive)
            shared = len(one & other) / max(1, len(one | other))
            shorter, longer = (f" {' '.join(words)} " for words in sorted((passage, positive), key=len))
            within = min(len(passage), len(positive)) >= LEAST_WORDS and shorter in longer
            yield i, within or shared >= self.settings.shared_words


def judge_of(job: Job[Any]) -> Judge:
    """The judge that a job was given."""
    settings, folders = job.settings, job.inputs_of("cross_encoder")
    judge = settings.judge
    if (judge.cross_encoder is None) != (not folders):
        raise UserError("judge.cross_encoder and the model's folder (--cross-encoder) go together")
    if judge.chat is not None:
        chat = judge.chat
        key_variable = settings.key_variable or chat.key_variable
        endpoint = Endpoint(chat.url, key_variable, settings.timeout, settings.tries)
        return ChatModel(chat, endpoint, settings.requests_at_once)
    return CrossEncoder(judge.cross_encoder, folders[0]) if folders else Rules(judge.rules)


def questions_of(rows: Sequence[PairRow], which: Iterable[tuple[int, int]]) -> list[Question]:
    """What is asked about negatives, each by its row and its place in it."""
    chosen = ((rows[row], place) for row, place in which)
    return [Question(row.query, row.positives[0], row.negatives[place]) for row, place in chosen]


def labels_of(job: Job[Any], judge: Judge, questions: Sequence[Question]) -> list[Label]:
    """The labels of questions: those that are kept, and the others asked for now, each once."""
    keys = [question_key(*question) for question in questions]
    answers = Answers(job.work.folder.parent, judge.identity(), job.settings.dataset)
    with answers.mine() as held:
        open_ = {key: question for key, question in zip(keys, questions, strict=True) if key not in held}
        log.info("%d of %d labels are kept, %d are asked for", len(keys) - len(open_), len(keys), len(open_))
        order = list(open_)
        with Progress("judge", len(order), "labels") as progress:
            for place, label in judge.label(list(open_.values())):
                held.add(order[place], label)
                progress.advance()
        job.note(judge=judge.identity(), labels={"asked": len(order), "kept": len(set(keys)) - len(order)})
        return [held.get(key) for key in keys]
