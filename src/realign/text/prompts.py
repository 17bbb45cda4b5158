"""How an instruction stands before a query: `Instruct: <task>\\nQuery: `, and nothing else.

Passages carry no instruction. The instruction and the text are joined without anything between
them, so that the instruction's own length is known by itself.
"""

HEAD, TAIL = "Instruct: ", "\nQuery: "


def instruct(task: str) -> str:
    """The instruction that precedes a query for a task said in a sentence; empty for no task."""
    return f"{HEAD}{task}{TAIL}" if task else ""


def task_of(instruction: str) -> str:
    """The sentence inside an instruction; an instruction of another form is returned as it is."""
    if instruction.startswith(HEAD) and instruction.rstrip().endswith(TAIL.rstrip()):
        return instruction[len(HEAD) : instruction.rindex(TAIL.rstrip())]
    return instruction
