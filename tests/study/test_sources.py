"""Sources of backbones: the guide that adds one with several parents, followed on a copy of the code."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from micro_study import save_backbone

ROOT = Path(__file__).resolve().parents[2]
STUDY = {
    "study": {"name": "own"},
    "backbones": {
        "base": {"path": "base"},
        "tuned": {"path": "tuned"},
        "mixed": {"soup": {"of": ["base", "tuned"], "shares": [0.25, 0.75]}},
        "twice": {"soup": {"of": ["mixed", "base"]}},
    },
    "pairs": [{"left": "tuned", "right": "mixed", "kind": "merge"}],
    "backbone_scores": {"problem_count": 4},
}
USE = """
import json
from realign.plan.describe import describe
from realign.runs.cost import OTHER_HOURS, UNMEASURED_HOURS
from realign.study.errors import StudyError
from realign.study.load import load_study, parse_study
from realign.study.pairs import Pair
from realign.study.sources import Backbone, base_of, kind_of, scored, tokenizers_differ

study = load_study("study.yaml")
whole = study.backbones, study.pairs
pretrained = {"vocabulary": 300}, {"vocabulary": 400}
roots = {n: Backbone(pretrain={"tokenizer": t}) for n, t in zip("ab", pretrained)}
made = {**roots, "both": Backbone(soup={"of": ["a", "b"]}), "aa": Backbone(soup={"of": ["a", "a"]})}
try:
    wrong = {"a": {"soup": {"of": ["b", "c"]}}, "b": {"soup": {"of": ["d", "a"]}}, "d": {"path": "d"}}
    parse_study({"study": {"name": "own"}, "backbones": wrong | {"c": {"soup": {"of": ["d", "e"]}}}})
except StudyError as error:
    problems = error.problems
print(json.dumps({
    "parents": study.backbones["mixed"].parents,
    "slice": study.backbones["mixed"].recipe.as_slice(),
    "bases": [base_of(name, *whole) for name in study.backbones],
    "kinds": [kind_of(name, *whole) for name in study.backbones],
    "scored": scored(study.backbone_scores, *whole),
    "described": describe(study).backbones["mixed"],
    "differ": [tokenizers_differ(Pair(left="b", right=right, kind="merge"), made) for right in ("both", "aa")],
    "problems": problems,
    "hours": UNMEASURED_HOURS.get("soup", OTHER_HOURS),
}))
"""


def add(file: Path, code: str, before: str = "") -> None:
    """Code into a file: above a line that stands there, or at the end."""
    text = file.read_text("utf-8") if file.exists() else ""
    assert before in text
    file.write_text(text.replace(before, f"{code}{before}", 1) if before else f"{text}\n\n{code}", "utf-8")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the code to which the guide has added its source, and a study that uses it."""
    place = tmp_path_factory.mktemp("copied")
    shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "workflow", place / "workflow")
    shutil.copy(ROOT / "Snakefile", place)
    guide = (ROOT / "docs" / "how-to.md").read_text("utf-8").split("## … add a source of backbones")[1]
    blocks = re.findall(r"^   ```python\n(.*?)^   ```", guide.split("\n## …")[0], re.DOTALL | re.MULTILINE)
    recipe, entry, work, command, stage, rule = (re.sub("^   ", "", b, flags=re.MULTILINE) for b in blocks)
    package = place / "src" / "realign"
    add(package / "study" / "backbones.py", f"{recipe}\n\n", "class ScoreBackbone(")
    add(package / "study" / "sources.py", "    Soup,\n", "    Pretrain,\n")
    add(package / "study" / "sources.py", entry, '    "untrained": Source(')
    add(package / "backbones" / "soup.py", work)
    add(package / "backbones" / "commands.py", "    Soup,\n", "    Pretrain,\n")
    add(package / "backbones" / "commands.py", command)
    add(package / "commands.py", stage, '    "untrained": (')
    add(place / "workflow" / "rules" / "backbones.smk", f"{rule}\n\n", "rule untrained:")
    for seed, name in enumerate(("base", "tuned")):
        save_backbone(place / name, seed)
    (place / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return place


def call(copied: Path, *words: str) -> str:
    paths = {"PYTHONPATH": str(copied / "src"), "OMP_NUM_THREADS": "1"}
    paths["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, *words], env=os.environ | paths, cwd=copied, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_a_source_with_two_parents_is_added_as_the_guide_says(copied):
    found = json.loads(call(copied, "-c", USE))
    assert found == {
        "parents": ["base", "tuned"],
        "slice": {"shares": [0.25, 0.75]},  # parents are inputs
        "bases": [None, None, "tuned", "mixed"],
        "kinds": ["base", "base", "merge", "merge"],
        "scored": ["base", "tuned", "mixed", "twice"],
        "described": {"source": "soup from base, tuned"},
        "differ": [False, True],
        "problems": [
            "backbones.a: made from itself (a from b from a)",
            "backbones.b: made from itself (b from a from b)",
            "backbones.c: made from 'e', which is no backbone",
        ],
        "hours": 0.002,
    }


def test_a_source_with_two_parents_is_planned(copied):
    target = "results/own/backbones/twice/model"
    words = ["-m", "snakemake", "-n", "-p", "--cores", "1", target, "--configfile", "study.yaml"]
    planned = call(copied, *words)
    jobs = re.findall(r"realign soup --job (\S+) .*--parents (.*) --model (\S+)", planned)
    assert [(parents.split(), model) for _, parents, model in jobs] == [
        ([f"results/own/backbones/{name}/model" for name in names], f"results/own/backbones/{made}/model")
        for names, made in ((("base", "tuned"), "mixed"), (("mixed", "base"), "twice"))
    ]
    assert [json.loads(job.strip("'"))["settings"] for job, *_ in jobs] == [
        {"shares": [0.25, 0.75]},
        {"shares": []},
    ]


@pytest.mark.slow
def test_a_source_with_two_parents_runs(copied):
    from safetensors.torch import load_file

    made = [f"results/own/backbones/{name}/model" for name in ("mixed", "twice")]
    call(copied, "-m", "snakemake", "--cores", "1", *made, "--configfile", "study.yaml")
    base, tuned, mixed, twice = (
        load_file(copied / folder / "model.safetensors") for folder in ("base", "tuned", *made)
    )
    assert base.keys() == mixed.keys()
    for name, weight in mixed.items():
        expected = 0.25 * base[name] + 0.75 * tuned[name]
        assert weight.allclose(expected, atol=1e-6)
        assert twice[name].allclose((expected + base[name]) / 2, atol=1e-6)
