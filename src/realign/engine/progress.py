"""Progress that a person can follow: a bar on a terminal, a line now and then in a log."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


class Progress:
    """Counts what is done of a whole. On a terminal it draws a bar; elsewhere it logs lines."""

    def __init__(
        self, what: str, total: int | None = None, unit: str = "it", every: float = 15.0, done: int = 0
    ):
        """`done` counts what an earlier attempt did: it took none of this one's time."""
        self.what, self.total, self.unit, self.every = what, total, unit, every
        self.done = self._before = done
        self._started = self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, desc=what, unit=unit, leave=False)

    def advance(self, count: int = 1, **facts: object) -> None:
        """Say that `count` more are done; `facts` are shown beside (loss, tokens/s, …)."""
        self.done += count
        if self._bar is not None:
            try:
                if facts:
                    self._bar.set_postfix({k: _short(v) for k, v in facts.items()}, refresh=False)
                self._bar.update(count)
            except OSError:  # the terminal was closed; the work has yet to be saved
                self._bar = None
        elif (now := time.monotonic()) - self._told >= self.every:
            self._told = now
            log.info("%s", self._line(now, facts))

    def _line(self, now: float, facts: dict[str, object]) -> str:
        elapsed = now - self._started
        whole = f"/{self.total}" if self.total else ""
        own = self.done - self._before
        left = elapsed / own * (self.total - self.done) if self.total and own else None
        parts = [f"{self.what}: {self.done}{whole} {self.unit} in {elapsed:.0f} s"]
        if left is not None:
            parts.append(f"{left:.0f} s left")
        parts += [f"{k} {_short(v)}" for k, v in facts.items()]
        return ", ".join(parts)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def follow(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """The items, one by one, with their progress told."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()
