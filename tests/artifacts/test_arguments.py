"""What a command says of settings that it can't read."""

import pytest

from realign.cli import main as realign


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("@nothing.json", "--settings @nothing.json: the file can't be read"),
        ("seed", "--settings seed: a mapping is wanted"),
        ('{"seed": 1', "not a YAML value: '{\"seed\": 1': expected ',' or '}'"),
    ],
)
def test_settings_that_are_none_are_one_sentence(given, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert realign(["report", "--study", "study.json", "--html", "report.html", "--settings", given]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"realign report: {words}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["figures", "--results", "{results}", "--out", "{file}", "--only", "figure_1"], "file/"),
        (["report", "--study", "{results}/tidy/study.json", "--html", "{file}/report.html"], "file/"),
    ],
)
def test_a_file_where_a_folder_is_wanted_is_named_in_one_sentence(words, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file")
    (tmp_path / "tidy").mkdir()
    (tmp_path / "tidy/study.json").write_text('{"name": "x"}')
    assert realign([word.format(results=tmp_path, file=tmp_path / "file") for word in words]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"realign {words[0]}: ")
    assert str(tmp_path / "file") in last
    assert last.endswith(": not a directory") or last.endswith(": file exists")
