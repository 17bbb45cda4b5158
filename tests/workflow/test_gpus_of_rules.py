"""A rule that reserves GPUs tells its command of them, which otherwise works on without any that are missing."""

import re
from pathlib import Path

RULES = Path(__file__).parents[2] / "workflow" / "rules"


def test_every_rule_with_gpus_hands_them_to_its_command():
    counted = []
    for file in sorted(RULES.glob("*.smk")):
        for rule in re.split(r"^(?=\s*rule\b)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            if "gpus=0" in rule:
                assert "--gpus {resources.gpus_given}" in rule, rule.splitlines()[0]
                counted += re.findall(r"^\s*rule (\w+)", rule)
    # Rules whose command puts texts through a model, on a GPU where there is one.
    encoding = {"train", "extract", "mine", "margin_filter", "evaluate", "traces", "rlvr", "score_backbone"}
    assert encoding <= set(counted)
