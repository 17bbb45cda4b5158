"""The kinds of reasoning problem: how each is made, worked, and gone wrong about.

A solver writes the steps that lead to the answer. Asked to slip, it gets one step wrong by a
little and carries on with what it then has, so that the wrong answer follows from a wrong trace.
"""

import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from random import Random

Solution = tuple[str, list[str], str]  # question, steps, answer
Solver = Callable[[Random, bool], Solution]


@dataclass(frozen=True)
class Made:
    """One problem: what it is the same as (`key`), and how to pose and solve it."""

    task: str
    level: int
    key: Hashable
    solve: Solver = field(compare=False)


@dataclass(frozen=True)
class Kind:
    """A kind of problem: problems of a level, made in order from a seed, repetitions included."""

    make: Callable[[int, int, int], Iterator[Made]]
    only_level: int | None = None

    def levels(self, asked: tuple[int, ...]) -> tuple[int, ...]:
        """The levels that exist among those asked for."""
        return asked if self.only_level is None else (self.only_level,)


def _off(value: int, rng: Random, low: int | None = None) -> int:
    """A number that is wrong by one or two, and not below `low`."""
    wrong = value + rng.choice((-2, -1, 1, 2))
    return wrong if low is None or wrong >= low else value + 1


def _digits(number: int, count: int) -> list[int]:
    return [number // 10**i % 10 for i in range(count)]


def _operands(level: int, rng: Random) -> tuple[int, int]:
    low, high = (0 if level == 1 else 10 ** (level - 1)), 10**level - 1
    return rng.randint(low, high), rng.randint(low, high)


def _two_operands(task: str, pose: Callable[[int, int], Solver]) -> Callable[[int, int, int], Iterator[Made]]:
    def make(level: int, count: int, seed: int) -> Iterator[Made]:
        rng = Random(seed)  # noqa: S311
        for _ in range(20 * count + 200):
            low, high = sorted(_operands(level, rng))
            yield Made(task, level, (task, low, high), pose(low, high))

    return make


def _sum(low: int, high: int) -> Solver:
    def solve(rng: Random, slip: bool) -> Solution:
        a, b = (low, high) if rng.random() < 0.5 else (high, low)
        places = max(len(str(a)), len(str(b)))
        wrong_at = rng.randrange(places) if slip else None
        steps, total, carry = [], 0, 0
        for i, (x, y) in enumerate(zip(_digits(a, places), _digits(b, places), strict=True)):
            value = x + y + carry
            if i == wrong_at:
                value = _off(value, rng, low=0)
            steps.append(f"{x}+{y}{'+1' if carry else ''}={value}")
            carry = int(value >= 10) if i < places - 1 else 0
            total += (value % 10 if i < places - 1 else value) * 10**i
            if carry and value >= 20:
                carry = value // 10
        return f"What is {a} + {b}?", steps, str(total)

    return solve


def _difference(low: int, high: int) -> Solver:
    def solve(rng: Random, slip: bool) -> Solution:
        places = len(str(high))
        wrong_at = rng.randrange(places) if slip else None
        steps, total, borrow = [], 0, 0
        for i, (x, y) in enumerate(zip(_digits(high, places), _digits(low, places), strict=True)):
            below = x - y - borrow < 0
            value = x + 10 * below - y - borrow
            told = (value + rng.choice((1, 9, 2, 8))) % 10 if i == wrong_at else value
            steps.append(f"{x + 10 * below}-{y}{'-1' if borrow else ''}={told}")
            borrow = int(below)
            total += told * 10**i
        return f"What is {high} - {low}?", steps, str(total)

    return solve


def _product(low: int, high: int) -> Solver:
    def solve(rng: Random, slip: bool) -> Solution:
        a, b = (low, high) if rng.random() < 0.5 else (high, low)
        parts = [d * 10**i for i, d in enumerate(_digits(b, len(str(b)))) if d or b == 0]
        wrong_at = rng.randrange(len(parts)) if slip else None
        steps, total = [], 0
        for i, part in enumerate(parts):
            value = _off(a * part, rng) if i == wrong_at else a * part
            steps.append(f"{a}*{part}={value}")
            if i:
                steps.append(f"{total}+{value}={total + value}")
            total += value
        return f"What is {a} times {b}?", steps, str(total)

    return solve


def _from_gym(
    dataset: str, options: Callable[[int], dict[str, object]], pose: Callable[[dict], Made | None]
) -> Callable[[int, int, int], Iterator[Made]]:
    """Problems of one of reasoning-gym's generators, which are seeded on their own."""

    def make(level: int, count: int, seed: int) -> Iterator[Made]:
        import reasoning_gym

        size = 4 * count + 50
        items = reasoning_gym.create_dataset(dataset, size=size, seed=seed, **options(level))
        for i in range(size):
            item = items[i]
            made = pose({**item, "level": level})
            if made is not None:
                yield made

    return make


def _chain_sum(item: dict) -> Made:
    expression = item["metadata"]["expression"]
    first, *rest = re.findall(r"[-+]?\s*\d+", expression)
    signed = [term.replace(" ", "") for term in rest]  # with its sign, which "- 0" would lose as a number
    terms = [int(first), *map(int, signed)]

    def solve(rng: Random, slip: bool) -> Solution:
        wrong_at = rng.randrange(1, len(terms)) if slip else None
        total, steps = terms[0], []
        for i, term in enumerate(signed, 1):
            value = total + int(term)
            if i == wrong_at:
                value = _off(value, rng)
            steps.append(f"{total}{term}={value}")
            total = value
        return f"What is {expression}?", steps, str(total)

    return Made("chain_sum", item["level"], ("chain_sum", tuple(terms)), solve)


def _euclid(a: int, b: int, rng: Random, slip: bool) -> tuple[list[str], int]:
    pairs, (x, y) = [], (a, b)
    while y:
        pairs.append((x, y))
        x, y = y, x % y
    wrong_at = rng.randrange(len(pairs)) if slip else None
    steps, (x, y) = [], (a, b)
    for i in range(len(pairs) + 8):
        if not y:
            break
        rest = min(_off(x % y, rng, low=0), y) if i == wrong_at else x % y
        steps.append(f"{x} mod {y} = {rest}")
        x, y = y, rest
    return steps, x


def _gcd(item: dict) -> Made:
    a, b = sorted(item["metadata"]["numbers"], reverse=True)

    def solve(rng: Random, slip: bool) -> Solution:
        steps, found = _euclid(a, b, rng, slip)
        return f"What is the greatest common divisor of {a} and {b}?", steps, str(found)

    return Made("gcd", item["level"], ("gcd", a, b), solve)


def _lcm(item: dict) -> Made:
    a, b = sorted(item["metadata"]["numbers"], reverse=True)

    def solve(rng: Random, slip: bool) -> Solution:
        steps, found = _euclid(a, b, rng, False)
        value = a * b // found
        if slip:
            value = _off(value, rng)
        steps.append(f"{a}*{b}/{found}={value}")
        return f"What is the least common multiple of {a} and {b}?", steps, str(value)

    return Made("lcm", item["level"], ("lcm", a, b), solve)


_PLURALS = {"sheep": "sheep", "deer": "deer", "woodlouse": "woodlice", "butterfly": "butterflies",
            "firefly": "fireflies", "leech": "leeches", "cockroach": "cockroaches",
            "praying mantis": "praying mantises"}  # fmt: skip


def _plural(name: str) -> str:
    return _PLURALS.get(name, name if name.endswith("fish") else f"{name}s")


def _legs(item: dict) -> Made:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    animals: dict[str, int] = item["metadata"]["animals"]
    listed = ", ".join(f"{count} {_plural(name) if count > 1 else name}" for name, count in animals.items())

    def solve(rng: Random, slip: bool) -> Solution:
        wrong_at = rng.randrange(len(animals)) if slip else None
        steps, total = [], 0
        for i, (name, count) in enumerate(animals.items()):
            value = count * ANIMALS[name]
            if i == wrong_at:
                value = _off(value, rng, low=0)
            steps.append(f"{name}: {count}*{ANIMALS[name]}={value}")
            if i:
                steps.append(f"{total}+{value}={total + value}")
            total += value
        return f"How many legs do {listed} have in all?", steps, str(total)

    return Made("leg_counting", item["level"], ("leg_counting", tuple(sorted(animals.items()))), solve)


_LAST_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?!.*\d)", re.DOTALL)


def _word_problem(item: dict) -> Made | None:
    question = " ".join(item["question"].replace("Do not include units.", "").split())
    question = question.replace(" Give the result as your final answer.", "")
    worked = item["metadata"]["answer_cot"].splitlines()
    steps = [" ".join(line.split()) for line in worked if line.strip() and not line.startswith("####")]
    answer = item["answer"]
    last = _LAST_NUMBER.search("\n".join(steps))
    # some of its worked answers contradict the answer; those are left out
    if not re.fullmatch(r"\d+", answer) or not last or last[0].replace(",", "") != answer:
        return None

    def solve(rng: Random, slip: bool) -> Solution:
        return question, steps, str(_off(int(answer), rng)) if slip else answer

    return Made("word_problem", WORD_PROBLEM_LEVEL, ("word_problem", question), solve)


def _chain_options(level: int) -> dict[str, object]:
    return {"min_terms": 3, "max_terms": 4, "min_digits": level, "max_digits": level}


def _value_options(level: int) -> dict[str, object]:
    return {"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 2 * 10**level}


def _leg_options(level: int) -> dict[str, object]:
    return {
        "min_animals": 1 + level,
        "max_animals": 1 + level,
        "min_instances": 1,
        "max_instances": 3 + 4 * level,
    }


WORD_PROBLEM_LEVEL = 3

KINDS: dict[str, Kind] = {
    "sum": Kind(_two_operands("sum", _sum)),
    "difference": Kind(_two_operands("difference", _difference)),
    "products": Kind(_two_operands("products", _product)),
    "chain_sum": Kind(_from_gym("chain_sum", _chain_options, _chain_sum)),
    "gcd": Kind(_from_gym("gcd", _value_options, _gcd)),
    "lcm": Kind(_from_gym("lcm", _value_options, _lcm)),
    "leg_counting": Kind(_from_gym("leg_counting", _leg_options, _legs)),
    "word_problem": Kind(_from_gym("gsm_symbolic", lambda level: {}, _word_problem), WORD_PROBLEM_LEVEL),
}
