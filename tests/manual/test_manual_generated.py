"""The pages that are made from something else are as they would be made now."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "bench" / "results").glob("*.json"))


MAKERS = [
    ["-m", "realign.study.document"],
    ["-m", "bench.table"],
    ["docs/generate.py"],
    ["docs/reread.py"],
    ["bench/scale.py"],
]


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker[-1])
def test_a_generated_page_is_up_to_date(maker):
    words = [sys.executable, *maker, "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_of_verdicts_has_a_cell_for_each_column():
    claims = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    made = claims.split("<!-- made by bench/table.py -->\n")[1].split("<!-- end -->")[0].splitlines()
    assert len(made) > 2
    assert {line.count("|") for line in made} == {8}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_benchmark_says_what_was_run_where(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["rows"]
    assert {"processor", "cores", "memory_gb", "packages"} <= set(result["machine"])
    assert len(result["commit"]) == 40
    assert result["command"].startswith(f"python -m bench {result['benchmark']}")
    named = {"case", "measure", "value", "unit", "aim"}
    assert all(named <= set(row) <= named | {"between"} for row in result["rows"])
