"""Who writes an answer to a prompt: a model behind an OpenAI-compatible endpoint, or one held here.

Both give the reasoning and the answer apart: endpoints that think send them in two fields, others
write `<think>…</think>` before the answer.
"""

import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

from realign.artifacts.command import UserError
from realign.seeds import derive_seed
from realign.study.traces import Endpoint, Generator

log = logging.getLogger(__name__)
BUSY = (408, 409, 429, 500, 502, 503, 504)
FIRST_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Reply:
    """What a model wrote: its reasoning, its answer, and whether it was cut off."""

    reasoning: str
    answer: str
    cut: bool = False


class Writer(Protocol):
    """Something that replies to a system prompt and a user prompt."""

    name: str

    def write(self, system: str, user: str, key: str) -> Reply:
        """The reply; `key` names the request, for sampling by seed."""
        ...


def split_thoughts(text: str) -> tuple[str, str]:
    """The reasoning between `<think>` and `</think>`, and what stands after it."""
    before, mark, after = text.partition("</think>")
    return (before.partition("<think>")[2] or before, after) if mark else ("", text)


class EndpointWriter:
    """A model behind an OpenAI-compatible endpoint; busy endpoints are asked again, ever more slowly."""

    def __init__(self, endpoint: Endpoint, sampling: Mapping[str, Any]):
        self.endpoint, self.name = endpoint, endpoint.model
        self.sampling = {**sampling, **endpoint.extra}
        self._headers = {"Content-Type": "application/json"}
        if variable := endpoint.key_variable:
            key = os.environ.get(variable)
            if not key:
                raise UserError(f"the environment variable {variable}, which is to hold the key, is not set")
            self._headers["Authorization"] = f"Bearer {key}"

    def write(self, system: str, user: str, key: str) -> Reply:
        """Ask the endpoint."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        body = {"model": self.name, "messages": messages, **self.sampling}
        reply = self._post(json.dumps(body).encode())
        try:
            choice = reply["choices"][0]
            message = choice["message"]
            content = message.get("content") or ""
            thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
            reasoning, answer = (thoughts, content) if thoughts else split_thoughts(content)
            return Reply(reasoning.strip(), answer.strip(), choice.get("finish_reason") == "length")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise UserError(
                f"{self.endpoint.url}: not a chat completion: {json.dumps(reply)[:300]}"
            ) from None

    def _post(self, body: bytes) -> Any:
        url = self.endpoint.url.rstrip("/") + "/chat/completions"
        for attempt in range(1, self.endpoint.attempts + 1):
            request = urllib.request.Request(url, body, self._headers)  # noqa: S310 (http(s), by the section)
            try:
                with urllib.request.urlopen(request, timeout=self.endpoint.timeout) as answer:  # noqa: S310
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                problem = f"{error.code} {error.reason}: {error.read(300).decode('utf-8', 'replace')}"
                if error.code not in BUSY:
                    raise UserError(f"{url}: {problem}") from None
            except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                problem = str(getattr(error, "reason", error))
            except json.JSONDecodeError as error:
                problem = f"the answer is not JSON ({error})"
            if attempt < self.endpoint.attempts:
                log.info("%s: %s; asked again (%d of %d)", url, problem, attempt, self.endpoint.attempts)
                time.sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
        raise UserError(f"{url}: no answer after {self.endpoint.attempts} attempts; the last: {problem}")


class BackboneWriter:
    """A causal language model on this machine; each request has its own seed, whatever came before it."""

    def __init__(self, path: Path, generator: Generator, seed: int):
        import torch
        from transformers import AutoModelForCausalLM

        from realign.embedder.model import load_tokenizer

        self.name, self._generator, self._seed = str(generator.backbone or path.parent.name), generator, seed
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        self._model = model.to(device).eval()
        self._tokenizer = load_tokenizer(path, self._model)

    def write(self, system: str, user: str, key: str) -> Reply:
        """Sample from the model."""
        import torch

        ids = torch.tensor([self._ids(system, user)], device=self._model.device)
        torch.manual_seed(derive_seed(self._seed, "trace", key))
        how = self._generator
        sampled = {"temperature": how.temperature, "top_p": how.top_p, "top_k": how.top_k}
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=how.max_tokens,
                do_sample=how.temperature > 0,
                pad_token_id=self._tokenizer.pad_token_id,
                **(sampled if how.temperature > 0 else {}),
            )[0, ids.shape[1] :]
        ends = self._model.generation_config.eos_token_id
        stops = set(ends) if isinstance(ends, list) else {ends}
        cut = len(made) >= how.max_tokens and int(made[-1]) not in stops
        text = self._tokenizer.decode(made, skip_special_tokens=True)
        reasoning, answer = split_thoughts(text)
        return Reply(reasoning.strip(), answer.strip(), cut)

    def _ids(self, system: str, user: str) -> list[int]:
        if self._tokenizer.chat_template:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._tokenizer("\n\n".join(part for part in (system, user) if part) + "\n")["input_ids"]
