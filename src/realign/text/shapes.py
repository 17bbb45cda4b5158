"""Training pairs from documented code, in several shapes, and the instruction of each."""

from collections.abc import Callable, Iterator, Sequence

from realign.text.docstrings import Entry
from realign.text.pairs import PairRow, text_key
from realign.text.prompts import instruct
from realign.text.select import cut, cut_lines, deal, first_of_each, shuffled

# Short, since a toy's tokenizer makes many tokens of them, which every query pays for.
INSTRUCTIONS = {
    "summary-description": "Find the description",
    "description-code": "Find the code",
    "parameters-function": "Find the function",
    "example-function": "Find the documentation",
}

Pair = tuple[str, str]


def has_summary(entry: Entry) -> bool:
    """Whether the summary says enough to be looked for."""
    return 4 <= len(entry.summary.split()) <= 60


def summary_description(entry: Entry, limit: int) -> Pair | None:
    """The summary asks, the rest of the prose answers."""
    if not has_summary(entry) or len(entry.description) < 80:
        return None
    return entry.summary, cut(entry.description, limit)


def description_code(entry: Entry, limit: int) -> Pair | None:
    """Summary and description ask, the code answers."""
    if not has_summary(entry) or entry.code.count("\n") < 3 or len(entry.code) > 4 * limit:
        return None
    return cut(entry.text, 400).replace("\n\n", " "), cut_lines(entry.code, limit)


def parameters_function(entry: Entry, limit: int) -> Pair | None:
    """What some parameters mean asks; name, signature and summary answer."""
    told = [p for p in entry.parameters if len(p.text.split()) >= 5]
    if not has_summary(entry) or len(told) < 2:
        return None
    query = "\n".join(f"{p.name}: {cut(p.text, 120)}" for p in told[:3])
    return query, cut(f"{entry.id}\n{entry.text}", limit)


def example_function(entry: Entry, limit: int) -> Pair | None:
    """A code example asks, summary and description answer."""
    if not has_summary(entry) or len(entry.example) < 60:
        return None
    return cut_lines(entry.example, 400), cut(entry.text, limit)


MAKERS: dict[str, Callable[[Entry, int], Pair | None]] = {
    "summary-description": summary_description,
    "description-code": description_code,
    "parameters-function": parameters_function,
    "example-function": example_function,
}


def pairs_of(shape: str, entries: Sequence[Entry], count: int, limit: int, seed: int) -> Iterator[PairRow]:
    """Up to `count` pairs of a shape; no query and no positive occurs twice, packages take turns."""
    made = [(entry, pair) for entry in entries if (pair := MAKERS[shape](entry, limit))]
    distinct = first_of_each(made, lambda x: text_key(x[1][0]), lambda x: text_key(x[1][1]))
    mixed = shuffled(distinct, lambda x: x[0].id, seed, "pairs", shape)
    for _, (query, answer) in deal(mixed, lambda x: x[0].package, count):
        yield PairRow(query, (answer,), instruction=instruct(INSTRUCTIONS[shape]))
