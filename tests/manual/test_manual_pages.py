"""What the pages point at is there, and what they quote is what the program says."""

import ast
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml

from realign.claims.judge import judge
from realign.hrsa import compare, extra
from realign.measures import extra as declared
from realign.measures import registry
from realign.plan.memory import Shape, training_need
from realign.results.tidy import Tidy
from realign.study.claims import Claim, ClaimTest
from realign.study.description import PairEntry
from realign.study.drawing import JudgeClaims
from realign.study.figures import View
from realign.study.load import parse_study

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "results" / "README.md"]
SRC = ROOT / "src" / "realign"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    gone = [t for t in targets if t and not (page.parent / t).exists()]
    assert gone == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [
        p.name for p in (ROOT / "docs").glob("*.md") if p.name != "index.md" and f"({p.name})" not in index
    ]
    assert missing == []


def spoken():
    """Everything that the program can say: the fixed parts of its strings, one after the other."""
    said = []
    files = [*SRC.rglob("*.py"), ROOT / "Makefile"]
    for path in files:
        if path.suffix != ".py":
            said.append(path.read_text(encoding="utf-8"))
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                said.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    return "\n".join(said)


def test_the_first_study_on_gpus_is_sound_and_fits_its_gpu():
    text = (ROOT / "docs" / "gpus.md").read_text(encoding="utf-8")
    study = parse_study(yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1]))
    assert study.resources.of("train", "qwen").gpus == 1
    shape = Shape(896, 24, 4864, 896, 128, 14, 151936)
    need = training_need(shape, study.recipes["full"], 1)
    shown = re.search(r"qwen\+full: (\d+) of 48 GB on each of 1 GPUs \((.*)\)", text)
    assert float(shown[1]) == round(need.total) < 48
    for name, value in re.findall(r"(\w+) ([\d.]+)", shown[2]):
        assert float(value) == round(getattr(need, name), 1), name


@pytest.mark.parametrize(("page", "least"), [("faq.md", 15), ("gpus.md", 5)])
def test_the_messages_that_pages_quote_are_the_programs_own(page, least):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    quoted = re.findall(r"^> (.+)$", text, re.M)
    said = spoken()
    assert len(quoted) > least
    for message in quoted:
        for part in re.split(r"…", message):
            words = part.strip(" '\"()")
            assert len(words) < 3 or words in said, f"{message!r}: the program never says {words!r}"


def test_the_measure_of_ones_own_in_the_how_to_works(monkeypatch, tmp_path):
    """The code on the page is run; its numbers have intervals, and a claim on them is judged."""
    text = (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")
    guide = text.split("## … add your own measure")[1]
    declaration, code = map(textwrap.dedent, re.findall(r"   ```python\n(.*?)   ```", guide, re.S)[:2])
    monkeypatch.setattr(extra, "DESCRIPTIONS", dict(extra.DESCRIPTIONS))
    monkeypatch.setattr(extra, "SIMILARITIES", {})
    for name in ("anisotropy", "row_cosine"):
        monkeypatch.setitem(registry.DECLARED, name, None)
        del registry.DECLARED[name]
    exec(declaration, dict(vars(declared)))  # each at the end of its own file
    exec(code, dict(vars(extra)))
    random = np.random.default_rng(0)
    flat = random.standard_normal((80, 6))
    long = flat * [10, 1, 1, 1, 1, 1]
    states = [np.stack([x, x]) for x in (flat, long)]  # the embedding output and one layer
    table = compare(*states, text_index=np.repeat(np.arange(20), 4), families=["extra"])
    rows = table[(table["measure"] == "anisotropy") & (table["layer_left"] == 1)].set_index("direction")
    assert rows.loc["left", "value"] < 0.4 < 0.9 < rows.loc["right", "value"]
    assert rows[["ci_low", "ci_high"]].notna().all(axis=None)
    cosine = table[table["measure"] == "row_cosine"].iloc[0]
    by_hand = [f @ g / np.linalg.norm(f) / np.linalg.norm(g) for f, g in zip(flat, long, strict=True)]
    assert cosine["value"] == pytest.approx(np.mean(by_hand))
    assert 0 < cosine["ci_low"] < cosine["value"] < cosine["ci_high"] < 1

    test = ClaimTest(statistic="level", measure="row_cosine", rule="above", threshold=0.2)
    pair = PairEntry(name="a--vs--b", left="a", right="b", kind="rlvr")
    claim = Claim(says="Corresponding states point the same way.", tests=(test,))
    view = View(corpora=("docs",))
    asked = JudgeClaims(study="s", claims={"alike": claim}, pairs=(pair,), view=view)
    about = {"pair": pair.name, "stage": "backbone", "attention": "causal", "corpus": "docs", "kind": "rlvr"}
    path = tmp_path / "tidy/measures/a.extra.parquet"
    path.parent.mkdir(parents=True)
    table.assign(**about).to_parquet(path)
    assert {f.verdict for f in judge(asked, Tidy([path]))["alike"]} == {"holds"}
