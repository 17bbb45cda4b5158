"""What needs a network runs beside Snakemake: compute nodes often have none."""

import re
from pathlib import Path

RULES = Path(__file__).resolve().parents[2] / "workflow" / "rules"


def test_everything_that_fetches_is_a_local_rule():
    text = "\n".join(path.read_text() for path in sorted(RULES.glob("*.smk")))
    fetching = set(re.findall(r"^rule (fetch_\w+):", text, re.MULTILINE))
    local = {
        name for block in re.findall(r"^localrules:\n((?:    \w+,\n)+)", text, re.MULTILINE)
        for name in re.findall(r"\w+", block)
    }  # fmt: skip
    assert fetching >= {"fetch_hub", "fetch_pypi", "fetch_dataset", "fetch_task"}
    assert fetching <= local
