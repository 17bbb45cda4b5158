"""Kinds of pairs: the guide that adds one, followed to the letter on a copy of the code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USE = """
from realign.drawing.figures import probes
from realign.plan.describe import describe
from realign.plan.plates import claims_settings, plate_settings
from realign.results.tidy import Tidy
from realign.study.load import parse_study

test = {"statistic": "level", "measure": "cka", "rule": "above", "kind": "pruned"}
study = parse_study({
    "study": {"name": "own"},
    "backbones": {"base": {"hub": "a/base"}, "small": {"hub": "a/small"}},
    "pairs": [{"left": "base", "right": "small", "kind": "pruned"}],
    "claims": {"own": {"kept": {"says": "Pruning keeps it.", "tests": [test]}}},
})
description = describe(study)
figure = probes.draw(plate_settings(description, "figure_12"), Tidy([]), []).figure
(legend,) = figure.legends
print([text.get_text() for text in legend.get_texts()])
print(legend.get_patches()[-1].get_facecolor())
print(claims_settings(description).claims["kept"].tests[0].kind)
"""


def test_a_kind_is_added_as_the_guide_says(tmp_path):
    guide = (ROOT / "docs" / "how-to.md").read_text("utf-8").split("## … add a kind of pair")[1]
    entry = re.search(r"```python\n(.*?)```", guide, re.DOTALL)[1]
    shutil.copytree(ROOT / "src" / "realign", tmp_path / "realign")
    table = tmp_path / "realign" / "study" / "kinds.py"
    before = table.read_text("utf-8")
    table.write_text(
        before.replace('    "control": PairKind(', f'{entry}    "control": PairKind(', 1), "utf-8"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", USE], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    legend, colour, kind = done.stdout.splitlines()
    assert legend == "['base', 'Pruned model']"
    assert colour.startswith("(0.541176")
    assert kind == "pruned"
