"""What rules get from their helpers."""

from pathlib import Path
from types import SimpleNamespace

HRSA = Path(__file__).parents[2] / "workflow/helpers/hrsa.smk"


def test_a_rules_flags_are_spelt_as_the_commands_parser_spells_them():
    command = SimpleNamespace(inputs={"left_states": None}, outputs={"measures": None, "by_text": None})
    names = {"load_command": lambda name: command}
    exec(HRSA.read_text(), names)
    assert names["shell_flags"](SimpleNamespace(command="compare")) == (
        "--left-states {input.left_states:q} --measures {output.measures:q} --by-text {output.by_text:q}"
    )
