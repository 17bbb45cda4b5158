"""How an instruction stands before a query: `Instruct: <task>\\nQuery: `, and nothing else.

Passages carry no instruction. The instruction and the text are joined without anything between
them, so that the instruction's own length is known by itself.
"""


def instruct(task: str) -> str:
    """The instruction that precedes a query for a task said in a sentence; empty for no task."""
    return f"Instruct: {task}\nQuery: " if task else ""
