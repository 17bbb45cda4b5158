"""How a problem stands before a language model: as plain text, or as a turn of a chat.

Tuning, sampling and scoring tokenize prompts here and nowhere else, so that an answer is always
sampled behind the very tokens that its model was tuned behind.
"""

from collections.abc import Sequence
from typing import Any

from realign.artifacts.command import UserError
from realign.study.backbones import Prompt
from realign.text.problems import Problem


def prompt_tokens(problems: Sequence[Problem], tokenizer: Any, prompt: Prompt) -> list[tuple[int, ...]]:
    """Each problem's prompt as tokens, with what the tokenizer itself puts before a text."""
    texts = [prompt.instruction + problem.prompt for problem in problems]
    if prompt.form == "chat":
        return _as_chat(texts, tokenizer)
    before = _before(tokenizer)
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [(*before, *ids) for ids in encoded]


def _before(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that a tokenizer puts before every text: a begin-of-text token, or none."""
    marked, bare = (tokenizer("a", add_special_tokens=flag)["input_ids"] for flag in (True, False))
    begin = tokenizer.bos_token_id
    return (begin,) if begin is not None and marked[:1] == [begin] and bare[:1] != [begin] else ()


def _as_chat(texts: Sequence[str], tokenizer: Any) -> list[tuple[int, ...]]:
    if not getattr(tokenizer, "chat_template", None):
        raise UserError("the tokenizer has no chat template; use `prompt: {form: plain}`")
    return [
        tuple(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text.strip()}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
            )["input_ids"]
        )
        for text in texts
    ]
