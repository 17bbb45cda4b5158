"""Reasoning problems with worked traces, dealt into splits that share no problem.

Sums and differences are made here; further kinds come from reasoning-gym's seeded generators, with
traces written here; a study can add tables of its own. In the pretraining split a share of the
solutions takes a wrong step and goes on from there, as a model that is not yet good at it would.
"""

import logging
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.seeds import derive_seed
from realign.study.text import SPLITS, ProblemsJob
from realign.text.further import further_problems
from realign.text.kinds import KINDS, Made
from realign.text.problems import ANSWER_MARK, Problem, score
from realign.text.select import shuffled
from realign.text.stats import text_stats
from realign.text.streams import write_json, write_objects

log = logging.getLogger(__name__)

PROBE = "probe"
PROBE_CHARACTERS = 500
TRIES = 40

Kind = tuple[str, int]  # a task and its difficulty


def run(job: Job[ProblemsJob]) -> None:
    """Write the splits, the pool of probe texts and their statistics."""
    settings = job.settings
    splits = make_splits(settings)
    more = further(job)
    stats: dict[str, Any] = {}
    for split in SPLITS:
        rows = [*solved(splits[split], split, settings), *more[split]]
        write_objects(job.output(split), (row.dump() for row in rows))
        stats[split] = statistics(rows)
    probes = [p for p in solved(splits[PROBE], PROBE, settings) if len(p.text) <= PROBE_CHARACTERS]
    texts = [{"id": p.id, "text": p.text, "label": p.task, "difficulty": p.difficulty} for p in probes]
    write_objects(job.output("reasoning"), texts)
    stats["reasoning"] = text_stats(texts)
    write_json(job.output("stats"), stats)
    job.note(origin="seeded generators", reasoning_gym=settings.generators)


def further(job: Job[ProblemsJob]) -> dict[str, list[Problem]]:
    """Problems from elsewhere by split; pretraining reads none of them."""
    found: dict[str, list[Problem]] = {split: [] for split in SPLITS}
    asked = job.settings.problems.further
    for (name, source), path in zip(sorted(asked.items()), job.inputs_of("further"), strict=True):
        for split, problems in further_problems(name, path, source, job.settings.seed).items():
            found[split] += problems
    return found


def statistics(rows: list[Problem]) -> dict[str, Any]:
    """What a split holds, and how many of its solutions are right."""
    texts = text_stats({"text": p.text, "label": f"{p.task}-{p.difficulty}"} for p in rows)
    right = sum(score(p.trace, p.answer) for p in rows)
    distinct = len({p.question for p in rows})
    return {"rows": len(rows), "questions": distinct, "right_share": round(right / len(rows), 4), **texts}


def quotas(settings: ProblemsJob) -> dict[str, dict[Kind, int]]:
    """How many problems of each kind each split wants."""
    problems = settings.problems
    wanted = {split: _shared(getattr(problems, split), problems.tasks, problems.levels) for split in SPLITS}
    wanted[PROBE] = _shared(settings.probe, problems.probe_tasks, problems.levels)
    return wanted


def _shared(count: int, tasks: Mapping[Any, float], levels: tuple[int, ...]) -> dict[Kind, int]:
    """A count dealt over kinds by their shares; the rounding goes to the kinds that lost most by it."""
    whole = sum(tasks.values())
    exact = {
        (task, level): count * share / whole / len(KINDS[task].levels(levels))
        for task, share in tasks.items()
        for level in KINDS[task].levels(levels)
    }
    counts = {kind: int(value) for kind, value in exact.items()}
    short = count - sum(counts.values())
    for kind in sorted(exact, key=lambda k: (counts[k] - exact[k], k))[:short]:
        counts[kind] += 1
    return counts


def make_splits(settings: ProblemsJob) -> dict[str, list[Made]]:
    """Distinct problems by split; what an easy level lacks, the next harder one of its task gives."""
    wanted = quotas(settings)
    splits: dict[str, list[Made]] = {split: [] for split in wanted}
    for task in sorted({task for counts in wanted.values() for task, _ in counts}):
        short = dict.fromkeys(wanted, 0)
        for level in sorted({level for counts in wanted.values() for t, level in counts if t == task}):
            needs = {split: counts.get((task, level), 0) + short[split] for split, counts in wanted.items()}
            made = distinct(task, level, sum(needs.values()), settings.seed)
            for split, share in _dealt(made, needs).items():
                splits[split] += share
                short[split] = needs[split] - len(share)
        if missing := sum(short.values()):
            raise UserError(
                f"there are {missing} too few different problems of the kind '{task}' at these levels; "
                "add a level in text.problems.levels, or ask for fewer problems"
            )
    return splits


def distinct(task: str, level: int, count: int, seed: int) -> list[Made]:
    """Up to `count` problems of a kind, no two the same up to the order of operands."""
    found: dict[object, Made] = {}
    for made in KINDS[task].make(level, count, derive_seed(seed, "problems", task, level, bits=31)):
        found.setdefault(made.key, made)
        if len(found) == count:
            break
    return list(found.values())


def _dealt(made: list[Made], needs: Mapping[str, int]) -> dict[str, list[Made]]:
    """The problems dealt to the splits in proportion to what they need."""
    share = min(1.0, len(made) / max(1, sum(needs.values())))
    dealt, start = {}, 0
    for split, need in needs.items():
        end = min(len(made), start + round(need * share))
        dealt[split], start = made[start:end], end
    return dealt


def solved(made: list[Made], split: str, settings: ProblemsJob) -> Iterator[Problem]:
    """The problems of a split with their solutions, mixed; pretraining has several of each."""
    pretrain = split == "pretrain"
    rows = [
        _solution(problem, f"{split}-{i:06d}-{n}" if pretrain else f"{split}-{i:06d}", pretrain, settings)
        for i, problem in enumerate(made)
        for n in range(settings.problems.solutions if pretrain else 1)
    ]
    yield from shuffled(rows, lambda p: p.id, settings.seed, "problem order", split)


def _solution(made: Made, name: str, imperfect: bool, settings: ProblemsJob) -> Problem:
    rng = Random(derive_seed(settings.seed, "solution", name))  # noqa: S311 (no secrets here)
    wrong = imperfect and rng.random() < settings.problems.wrong_share
    question, steps, answer = made.solve(rng, False)
    given = answer
    for _ in range(TRIES if wrong else 0):  # a wrong step can by luck still lead to the right answer
        question, steps, given = made.solve(rng, True)
        if given != answer:
            break
    if wrong and given == answer:
        given = str(int(answer) + 1)
    trace = "\n".join([*steps, f"{ANSWER_MARK} {given}"])
    return Problem(name, question, answer, trace, made.task, made.level)
