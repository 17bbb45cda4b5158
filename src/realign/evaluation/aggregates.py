"""Means of scores: over tasks, over task types, by language and by domain; never over holes.

A task's score is the mean of its main scores over the splits and subsets that count, as mteb has
it. A benchmark's mean exists only if every one of its tasks has a score; the published habit of
averaging whatever is there is a preset of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from realign.study.evaluation import BenchmarkPart


@dataclass(frozen=True)
class Entry:
    """One main score of a task: its split, its subset and the languages in it."""

    split: str
    subset: str
    value: float
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskScores:
    """A task's main scores, in mteb's order of splits and subsets."""

    task: str
    task_type: str
    entries: tuple[Entry, ...]
    domains: tuple[str, ...] = field(default=())

    def counting(self, part: BenchmarkPart, first_split_only: bool = False) -> tuple[Entry, ...]:
        """The entries that count for a benchmark; raises `KeyError` when one that should is absent."""
        splits = part.splits or tuple(dict.fromkeys(e.split for e in self.entries))
        if first_split_only:
            splits = splits[:1]
        kept = tuple(
            e for e in self.entries if e.split in splits and (not part.subsets or e.subset in part.subsets)
        )
        there = {(e.split, e.subset) for e in kept}
        for split in splits:
            for subset in part.subsets or [e.subset for e in self.entries if e.split == split] or [""]:
                if (split, subset) not in there:
                    raise KeyError(f"{self.task}: no score for {split}/{subset}")
        return kept


@dataclass(frozen=True)
class Mean:
    """One mean: of what, over how many."""

    metric: str
    value: float
    task_type: str = ""
    subset: str = ""


def mean(values: Iterable[float]) -> float:
    """The plain mean of some numbers, of which there is at least one."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


def holes(parts: Mapping[str, BenchmarkPart], there: Mapping[str, TaskScores]) -> list[str]:
    """The tasks of a benchmark that have no scores, or not all that count."""
    missing = []
    for task, part in parts.items():
        if task not in there:
            missing.append(task)
            continue
        try:
            there[task].counting(part)
        except KeyError:
            missing.append(task)
    return missing


def benchmark_means(
    parts: Mapping[str, BenchmarkPart],
    there: Mapping[str, TaskScores],
    first_split_only: bool = False,
    over_present: bool = False,
) -> Iterator[Mean]:
    """A benchmark's means; none of those that a missing task would change."""
    missing = set(holes(parts, there))
    present = {
        task: there[task].counting(parts[task], first_split_only) for task in parts if task not in missing
    }
    scores = {task: mean(e.value for e in entries) for task, entries in present.items()}
    if not scores or (missing and not over_present):
        return
    yield Mean("mean_over_tasks", mean(scores.values()))
    types = _grouped((there[task].task_type, value) for task, value in scores.items())
    for kind, values in types.items():
        yield Mean("mean_of_type", mean(values), task_type=kind)
    yield Mean("mean_over_types", mean(mean(values) for values in types.values()))
    for name, value in _by_language(present).items():
        yield Mean("mean_of_language", value, subset=name)
    domains = _grouped((domain, value) for task, value in scores.items() for domain in there[task].domains)
    for name, values in domains.items():
        yield Mean("mean_of_domain", mean(values), subset=name)


def _by_language(present: Mapping[str, tuple[Entry, ...]]) -> dict[str, float]:
    """For each language the mean over tasks of the task's mean over entries in that language."""
    languages: dict[str, list[float]] = {}
    for entries in present.values():
        own = _grouped((language, e.value) for e in entries for language in e.languages)
        for language, values in own.items():
            languages.setdefault(language, []).append(mean(values))
    return {language: mean(values) for language, values in sorted(languages.items())}


def _grouped(pairs: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return dict(sorted(groups.items()))
