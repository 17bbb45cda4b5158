"""The small commands around a run: what they say where a user errs, and what they list."""

import argparse
import ast
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from realign.artifacts.store import WorkStore
from realign.cli import main

SRC = Path(__file__).resolve().parents[2] / "src" / "realign"
STUDY = "study: {name: toy}\nbackbones: {}\n"
SNAKEFILE = """
rule all:
    output: "results/toy/report.html"
    shell: "touch {output}"
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["run", "plan", "status", "where"])
def test_a_study_that_is_missing_or_not_utf8_is_said_in_a_sentence(here, capsys, command):
    flag = ["--configfile"] if command in ("plan", "status") else []
    (here / "latin.yaml").write_bytes("study: {name: caf\xe9}\n".encode("latin-1"))
    assert main([command, *flag, "missing.yaml"]) == 1
    assert re.search(r"missing\.yaml: 1 problem\s+- no such file", capsys.readouterr().err)
    assert main([command, *flag, "latin.yaml"]) == 1
    assert re.search(r"latin\.yaml: 1 problem\s+- not UTF-8 text", capsys.readouterr().err)


@pytest.mark.parametrize("command", ["run", "plan", "status", "where"])
def test_in_an_empty_folder_the_study_is_missed_and_nothing_is_left_there(here, capsys, command):
    assert main([command]) == 1
    assert re.search(r"config\.yaml: 1 problem\s+- no such file", capsys.readouterr().err)
    assert list(here.iterdir()) == []


def test_a_run_passes_options_on_and_ends_with_where_the_report_is(here):
    (here / "mine.yaml").write_text(STUDY)
    (here / "Snakefile").write_text(SNAKEFILE)
    words = [sys.executable, "-m", "realign.cli", "run", "mine.yaml", "-s", "Snakefile", "--quiet", "all"]
    dry = subprocess.run([*words, "--dry-run"], capture_output=True, text=True)
    assert (dry.returncode, dry.stdout.count("report ")) == (0, 0), dry.stderr
    done = subprocess.run([*words, "--config", "study={name: toy}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["report", "results/toy/report.html"]


def test_status_takes_changes_to_the_study(here, capsys):
    (here / "config.yaml").write_text(STUDY)
    assert main(["status", "--config", "study={name: other}"]) == 1
    assert "no run below results/other yet" in capsys.readouterr().err


def test_no_command_line_takes_abbreviations():
    """`--config` would be read as `--configfile` where a command has no such flag."""
    loose = [
        f"{path.relative_to(SRC)}:{node.lineno}"
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == argparse.ArgumentParser.__name__
        and "allow_abbrev" not in {keyword.arg for keyword in node.keywords}
    ]
    assert loose == []


def entry(root, name, size, sealed):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(b"x" * size)
    if sealed:
        (folder / "sealed.json").write_text(json.dumps({}))


def test_the_store_is_listed_by_stage_with_totals(here, capsys):
    root = here / "results" / "toy" / ".work"
    for n in range(3):
        entry(root, f"train-{n}", 2000, sealed=n < 2)
    entry(root, "vectors-a", 500, sealed=False)
    entry(root, "mine-a", 10, sealed=True)
    for n, cpu in enumerate((7, 5)):
        used = {"seconds": 4, "cpu_seconds": cpu, "peak_memory_mb": 700 + n}
        (root / f"train-{n}/sealed.json").write_text(json.dumps({"provenance": used}))
    main(["store"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2:] == [
        ["mine", "1,", "12", "B"],
        ["train", "2,", "4.14", "KB", "1,", "2", "KB", "4.0", "s", "7.0", "s", "701", "MB"],
        ["vectors", "1,", "500", "B", "(kept", "for", "other", "work)"],
    ]
    main(["store", "--all"])
    said = capsys.readouterr().out
    assert "train-0" in said
    assert "unfinished" not in next(line for line in said.splitlines() if "vectors-a" in line)


def test_a_job_that_waits_for_another_says_for_which(here, caplog):
    work = WorkStore(here / "store").work("train", "abc")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from realign.artifacts.store import Work\n"
            "with Work(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()",
            str(work.folder),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    threading.Timer(1, holder.stdin.close).start()
    with work.locked():
        pass
    assert holder.wait() == 0
    (said,) = caplog.messages
    assert said.startswith(f"process {holder.pid} on ")
    assert said.endswith(f"is at work in {work.folder}: this job waits until it is done")
