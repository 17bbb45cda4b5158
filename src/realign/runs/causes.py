"""Why planned jobs would run, in words, and which of them only because code changed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from realign.artifacts.fingerprint import reachable
from realign.commands import load_command
from realign.runs.dag import FOLLOWS, PlannedJob

NOT_MADE = "output files have to be generated"
WORDS = {
    NOT_MADE: "not made yet",
    "updated input files": "an input changed",
    "set of input files has changed since last execution": "it has other inputs than before",
    "incomplete output files": "an earlier run was interrupted in it",
    "forced": "asked for",
}
BRIEF = 40  # letters of a setting's value
SHOWN = 3  # settings, modules or rules that are named before the rest is counted


def changed_modules(job: PlannedJob) -> tuple[str, ...]:
    """The modules whose code differs from what made the job's output, by its provenance."""
    if job.record is None or not job.new_code:
        return ()
    then, now = job.record["modules"], modules_now(job.record["command"])
    return tuple(sorted(m for m in {*then, *now} if then.get(m) != now.get(m)))


@cache
def modules_now(command: str) -> Mapping[str, str]:
    """The modules that a command reaches as its code is now, with their hashes."""
    return reachable(load_command(command).run.split(":")[0])


def explain(job: PlannedJob) -> str:
    """Why a job would run: which setting, which module, which input."""
    whys: list[str] = []
    if job.new_settings:
        whys.append("settings: " + _few(_differences(job.before["settings"], job.now["settings"])))
    if job.new_code:
        whys.append("code: " + (_few(changed_modules(job)) or "changed since its last run"))
    words = WORDS | {NOT_MADE: "what it made was deleted"} if job.before else WORDS
    whys += [words[reason] for reason in job.reasons if reason in words]
    if FOLLOWS in job.reasons:
        rules = sorted({name.partition("(")[0] for name in job.after})
        whys.append("follows " + (_few(rules) or "what runs before it"))
    return "; ".join(dict.fromkeys(whys)) or "; ".join(job.reasons)


def _few(words: Iterator[str] | Sequence[str]) -> str:
    shown = list(words)
    more = len(shown) - SHOWN
    return ", ".join(shown[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(one, other, f"{path}[{i}]")
    elif before != now:
        yield f"{path} {' → '.join(_where_they_differ(before, now))}"


def _where_they_differ(before: Any, now: Any) -> tuple[str, str]:
    """Both values as far as they are not alike, each in a few words."""
    one, other = (json.dumps(value, ensure_ascii=False) for value in (before, now))
    if max(len(one), len(other)) <= BRIEF:
        return one, other
    alike = next(i for i, (a, b) in enumerate(zip(one + chr(0), other + chr(0), strict=False)) if a != b)
    start = max(0, alike - 10)
    return _cut(one, start), _cut(other, start)


def _cut(text: str, start: int) -> str:
    kept = ("…" if start else "") + text[start:]
    return kept if len(kept) <= BRIEF else f"{kept[: BRIEF - 1]}…"


def redone_for_code(jobs: Sequence[PlannedJob]) -> dict[str, tuple[str, ...]]:
    """The jobs, by name, that were made before and would be redone because of code alone.

    With each the modules that did it, its own or those of the jobs that it follows.
    """
    by_name = {job.name: job for job in jobs}
    roots: dict[str, frozenset[str] | None] = {}  # nothing where something else than code plays a part

    def root(job: PlannedJob) -> frozenset[str] | None:
        if job.name not in roots:
            above = [root(by_name[name]) for name in job.after]
            own = _own_code(job)
            known = [modules for modules in (*above, own) if modules is not None]
            roots[job.name] = frozenset().union(*known) if len(known) == len(above) + 1 else None
        return roots[job.name]

    return {job.name: tuple(sorted(modules)) for job in jobs if (modules := root(job))}


def _own_code(job: PlannedJob) -> frozenset[str] | None:
    """The changed modules of a job that nothing but code and jobs before it make stale."""
    other = set(job.reasons) - {FOLLOWS, "params have changed since last execution"}
    if other or job.new_settings or not job.before:
        return None
    return frozenset(changed_modules(job) or [f"the code of {job.rule}"]) if job.new_code else frozenset()
