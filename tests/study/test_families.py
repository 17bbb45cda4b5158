"""Families of comparisons: the guide that adds one, followed to the letter on a copy of the code."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
study: {name: own}
backbones: {base: {path: base}, tuned: {path: tuned}}
pairs: [{left: base, right: tuned, kind: rlvr, embed: false}]
hrsa: {families: [update]}
evaluation: {backbones: false}
claims:
  own: {moved: {says: It moved., tests: [{statistic: level, measure: relative_update, rule: above, threshold: 0.2}]}}
"""
USE = """
import json
from pathlib import Path
from realign.claims.judge import judge
from realign.plan.comparisons import comparisons
from realign.plan.describe import describe
from realign.plan.plates import claims_parts, claims_settings
from realign.results.tidy import Tidy, read_table
from realign.runs.dag import planned_jobs
from realign.stages import run
from realign.study.load import load_study

study = load_study(Path("own.yaml"))
jobs = planned_jobs(Path("Snakefile").resolve(), Path.cwd(), Path("own.yaml").resolve())
(comparison,) = comparisons(study)
(part,) = [part for part in claims_parts(describe(study)) if part.table == "measures"]
settings = study.hrsa.job("update", comparison.context("own", part.corpus), study.study.seed).as_slice()
made = run("hrsa_update", left="base", right="tuned", measures=f"tidy/{part.path}", settings=settings)
rules = set(read_table("measures", [made["measures"]]).token_rule)
(finding,) = judge(claims_settings(describe(study)), Tidy([made["measures"]]))["moved"]
print(json.dumps({
    "rules": [job.name for job in jobs if job.rule.startswith(("hrsa", "extract"))],
    "outputs": [output for job in jobs if job.rule == "hrsa_update" for output in job.outputs],
    "token_rules": sorted(rules),
    "finding": [finding.what, finding.estimate.value, finding.estimate.error, finding.verdict],
}))
"""


@pytest.fixture
def copied(tmp_path):
    """A copy of the code and of the workflow to which the guide's family was added."""
    guide = (ROOT / "docs" / "how-to.md").read_text("utf-8").split("## … add a family of comparisons")[1]
    blocks = re.findall(r"   ```python\n(.*?)   ```", guide, re.DOTALL)[:4]
    entry, job, measures, code = map(textwrap.dedent, blocks)
    shutil.copytree(ROOT / "src" / "realign", tmp_path / "realign")
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    shutil.copy(ROOT / "Snakefile", tmp_path)
    for file, before, added in (
        ("measures/families.py", "    for family in (\n", f"{entry.rstrip()},\n"),
        ("study/hrsa.py", "JOBS: dict[str, type[ComparingModels]] = {\n", job),
        ("measures/table.py", "from realign.measures import ", "update, "),
    ):
        path = tmp_path / "realign" / file
        text = path.read_text("utf-8")
        assert text.count(before) == 1
        path.write_text(text.replace(before, before + added), "utf-8")
    (tmp_path / "realign" / "measures" / "update.py").write_text(measures, "utf-8")
    (tmp_path / "realign" / "hrsa" / "update.py").write_text(code, "utf-8")
    return tmp_path


def test_a_family_without_a_corpus_is_added_as_the_guide_says(copied):
    random = np.random.default_rng(0)
    base = {f"layer{i}": random.standard_normal((3, 4)).astype(np.float32) for i in range(8)}
    tuned = {name: tensor * np.float32(1.1 + i / 10) for i, (name, tensor) in enumerate(base.items())}
    for name, tensors in (("base", base), ("tuned", tuned)):
        (copied / name).mkdir()
        save_file(tensors, copied / name / "model.safetensors")
    (copied / "own.yaml").write_text(STUDY)
    environment = {
        "PYTHONPATH": str(copied), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(copied), "MPLCONFIGDIR": str(copied),
    }  # fmt: skip
    words = [sys.executable, "-c", USE]
    done = subprocess.run(words, env=environment, cwd=copied, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["rules"] == ["hrsa_update(comparison=base--vs--tuned)"]  # no states, no corpus, no floors
    assert told["outputs"] == ["results/own/tidy/measures/base--vs--tuned/update.parquet"]
    assert told["token_rules"] == [""]  # there are no tokens
    what, value, error, verdict = told["finding"]
    moved = np.arange(1, 9) / 10
    assert (what, verdict) == ("Relative update, backbones", "holds")
    assert value == pytest.approx(moved.mean(), rel=1e-5)
    assert error == pytest.approx(moved.std(ddof=1) / np.sqrt(8), rel=1e-5)


def test_a_family_of_states_is_added_as_the_guide_says(tmp_path):
    guide = (ROOT / "docs" / "how-to.md").read_text("utf-8").split("## … add a family of comparisons")[1]
    code = re.findall(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)[0]
    package = shutil.copytree(ROOT / "src" / "realign", tmp_path / "realign")
    number = 'Statistic("the mean ratio of lengths", ABOVE_ZERO)'
    declared = (
        "from realign.measures.registry import ABOVE_ZERO, Measure, Statistic, register\n"
        f'register(Measure("length_ratio", "lengths", "coordinates", "Lengths", {{"mean": {number}}}))\n'
    )
    (package / "measures/lengths.py").write_text(declared, "utf-8")
    (package / "hrsa/lengths.py").write_text(code, "utf-8")
    for file, before, added in (
        (
            "measures/families.py",
            "    for family in (\n",
            'Family("lengths", help="", run="realign.hrsa.lengths:run"),\n',
        ),
        ("study/hrsa.py", "JOBS: dict[str, type[ComparingModels]] = {\n", '"lengths": Comparing,\n'),
        ("measures/table.py", "from realign.measures import ", "lengths, "),
    ):
        text = (package / file).read_text("utf-8")
        (package / file).write_text(text.replace(before, before + added), "utf-8")
    use = (
        "import numpy as np; from realign.hrsa import compare; x = np.random.default_rng(0).random((40, 3))\n"
        "rows = compare(x, 2 * x, families=['lengths']).query('measure == \"length_ratio\"')\n"
        "print(rows[['layer_left', 'value', 'se']].to_json(orient='values'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", use], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = json.loads(done.stdout)
    assert row == pytest.approx([0, 2, 0], abs=1e-9)
