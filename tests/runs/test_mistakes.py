"""A day of mistakes: each is told in a sentence that names what is wrong and what to do, without a traceback."""

import re

import pytest

from realign.cli import main

STUDY = "study: {name: toy}\nbackbones: {base: {path: model}}\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "good.yaml").write_text(STUDY)
    (tmp_path / "tab.yaml").write_text("study:\n\tname: toy\n")
    (tmp_path / "two.yaml").write_text(f"{STUDY}---\n{STUDY}")
    (tmp_path / "wide.jsonl").write_text('{"query": "a", "pos": ["b"]}\n', encoding="utf-16")
    (tmp_path / "file.txt").write_text("a text\n")
    for name in ("one", "two"):
        (tmp_path / name / "config.json").write_text("{}")
    for name in ("loop.yaml", "loop.jsonl"):
        (tmp_path / name).symlink_to(name)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("plan tab.yaml", r"tab\.yaml: 1 problem\n.*line 2, column 1: a tab, .*; indent with spaces"),
        ("plan two.yaml", r"two\.yaml: 1 problem\n.*line 3, column 1: a second document begins here; .*one study"),
        ("plan loop.yaml", r"loop\.yaml: 1 problem\n.*[Tt]oo many levels of symbolic links"),
        ("text stats loop.jsonl", r"loop\.jsonl does not exist"),
        (f"text stats {'n' * 300}.jsonl", r"n{300}\.jsonl: file name too long"),
        ("text stats wide.jsonl", r"wide\.jsonl, line 1: not UTF-8 .* iconv -f utf-16 -t utf-8"),
        ("evaluate --model nope --tasks STS12", r"--model nope: no such folder; fetch a hub's model first"),
        ("compare one two --texts folder", r"--texts folder: this is a folder; name a file in it"),
        ("compare one folder", r"folder: no config\.json in this folder; give one with a model"),
        ("rank folder", r"folder: no benchmark scores found; give a study's results, or"),
        ("compare one two --out file.txt", r"--out file\.txt: this is a file; name a folder"),
    ],
)  # fmt: skip
def test_each_is_told_in_a_sentence(capsys, words, expected):
    assert main(words.split()) != 0
    said = capsys.readouterr().err
    assert re.search(expected, said), said
    assert "Traceback" not in said
