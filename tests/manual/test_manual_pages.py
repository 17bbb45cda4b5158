"""What the pages point at is there, and what they quote is what the program says."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from realign.hrsa import compare, estimands, extra

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


def test_the_messages_of_the_faq_are_the_programs_own():
    text = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^> (.+)$", text, re.M)
    said = spoken()
    assert len(quoted) > 15
    for message in quoted:
        for part in re.split(r"…", message):
            words = part.strip(" '\"()")
            assert len(words) < 3 or words in said, f"{message!r}: the program never says {words!r}"


def test_the_measure_of_ones_own_in_the_how_to_works(monkeypatch):
    """The code on the page is run, and its numbers come out of a comparison with intervals."""
    text = (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "DESCRIPTIONS" in block)
    monkeypatch.setattr(extra, "DESCRIPTIONS", dict(extra.DESCRIPTIONS))
    monkeypatch.setattr(estimands, "ESTIMANDS", dict(estimands.ESTIMANDS))
    tables = {"DESCRIPTIONS": extra.DESCRIPTIONS, "ESTIMANDS": estimands.ESTIMANDS}
    exec(code, {"np": np, "Array": np.ndarray, **tables})
    random = np.random.default_rng(0)
    flat = random.standard_normal((80, 6))
    long = flat * [10, 1, 1, 1, 1, 1]
    table = compare(flat, long, text_index=np.repeat(np.arange(20), 4), families=["extra"])
    rows = table[table["measure"] == "anisotropy"].set_index("direction")
    assert rows.loc["left", "value"] < 0.4 < 0.9 < rows.loc["right", "value"]
    assert rows[["ci_low", "ci_high"]].notna().all(axis=None)
