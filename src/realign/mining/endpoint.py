"""Requests to an OpenAI-compatible endpoint: retried where waiting helps, and never without a reason.

The key comes from an environment variable. It is sent to the endpoint and nowhere else: it is cut out of
whatever an error repeats, and redirects, which would carry it to another host, are refused.
"""

import email.utils
import http.client
import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from realign.artifacts.command import NodeError, UserError

log = logging.getLogger(__name__)
LONGEST_WAIT = 60.0  # seconds between two tries
SHOWN = 200  # characters of a server's own words that an error repeats


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class NoAnswerError(NodeError):
    """The endpoint gave no usable answer, however often it was asked; in an hour it may."""


@dataclass
class Endpoint:
    """Where requests go, and how patiently."""

    url: str
    key_variable: str | None = None
    timeout: float = 60.0
    tries: int = 6
    first_wait: float = 1.0

    def __post_init__(self) -> None:
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._stop = threading.Event()
        self._key = os.environ.get(self.key_variable or "", "").strip()
        about = f"{self.url}: the environment variable {self.key_variable}, which holds its key,"
        if self.key_variable and not self._key:
            raise UserError(f"{about} is not set")
        # What no header can hold would come back in the words of an error, where it could not be masked.
        if not self._key.isprintable() or any(ord(character) > 255 for character in self._key):
            raise UserError(f"{about} holds characters that no key has, such as a line break")

    def stop(self) -> None:
        """Let no request be tried again: the work has failed elsewhere."""
        self._stop.set()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The completion that answers a request, as JSON; an error that comes with HTTP 200 is none."""
        address, wait, reason = f"{self.url}/{path}", self.first_wait, ""
        for number in range(self.tries):
            if number:
                log.info("%s: %s; trying again in %.1f s", address, reason, wait)
                if self._stop.wait(wait):
                    break
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                answer = self._ask(address, body)
                if _is_completion(answer):
                    return answer
                reason = f"no completion{self._shown(json.dumps(answer))}"
            except urllib.error.HTTPError as error:
                with error:
                    reason = f"HTTP {error.code}{self._words(error)}"
                    if error.code not in (408, 409, 429) and error.code < 500:
                        raise UserError(f"{address}: {reason}{self._advice(error.code)}") from None
                    wait = max(wait, min(_asked_wait(error.headers.get("Retry-After")), LONGEST_WAIT))
            except (
                OSError,
                http.client.HTTPException,
                ValueError,
            ) as error:  # no connection, cut off, no JSON
                reason = self._without_key(
                    f"{type(error).__name__}: {getattr(error, 'reason', None) or error}"
                )
        raise NoAnswerError(
            f"{address}: no answer in {self.tries} tries (the last: {reason}); answers so far are kept, so "
            "run it again when the endpoint answers"
        )

    def _ask(self, address: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310 (checked)
        with self._opener.open(request, timeout=self.timeout) as answer:
            return json.loads(answer.read())

    def _words(self, error: urllib.error.HTTPError) -> str:
        """What the server says itself, which is often the reason."""
        try:
            return self._shown(" ".join(error.read(4096).decode("utf-8", "replace").split()))
        except (OSError, http.client.HTTPException):
            return ""

    def _shown(self, words: str) -> str:
        return f" ({self._without_key(words)[:SHOWN]})" if words else ""

    def _advice(self, code: int) -> str:
        if code in (401, 403):
            return (
                f"; check the key in the environment variable {self.key_variable}"
                if self.key_variable
                else "; name the environment variable that holds its key in key_variable"
            )
        return "; a redirect is not followed: give the address it points to" if 300 <= code < 400 else ""

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _is_completion(answer: Any) -> bool:
    try:
        return isinstance(answer["choices"][0]["message"], dict)
    except (KeyError, IndexError, TypeError):
        return False


def _asked_wait(header: str | None) -> float:
    """The seconds that a server asks to wait: a number, or a date."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
