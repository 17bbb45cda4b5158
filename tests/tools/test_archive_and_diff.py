import hashlib
import json
import shutil
import subprocess
import zipfile
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from realign.artifacts.command import UserError
from realign.artifacts.manifest import Manifest
from realign.cli import main as realign
from realign.results.tidy import read_table
from realign.tools.archive import check, opened, write_archive
from realign.tools.diff import compare, compare_runs
from realign.tools.figures import main as figures


@pytest.fixture
def whole(results, drawn, tmp_path):
    """Tidy results and drawings in one folder, with things that do not belong into an archive."""
    folder = tmp_path / "small"
    shutil.copytree(results, folder)
    shutil.copytree(drawn, folder, dirs_exist_ok=True)
    (folder / "embedders/e/model").mkdir(parents=True)
    (folder / "embedders/e/model/model.safetensors").write_bytes(b"weights")
    (folder / "embedders/e/model.provenance.json").write_text("{}")
    (folder / "states/m").mkdir(parents=True)
    (folder / "states/m/c.h5").write_bytes(b"states")
    return folder


def test_an_archive_holds_numbers_drawings_provenance_and_no_weights(whole, tmp_path):
    write_archive(whole, tmp_path / "a.zip")
    names = zipfile.ZipFile(tmp_path / "a.zip").namelist()
    inside = {n.split("/", 1)[1] for n in names}
    assert {"README.md", "SHA256SUMS", "tidy/study.json", "tidy/claims.parquet", "report.html"} <= inside
    assert {"figures/figure_3.pdf", "tables/table_1.tex", "embedders/e/model.provenance.json"} <= inside
    assert not [n for n in inside if n.endswith((".safetensors", ".h5")) or ".work" in n]


def test_the_same_results_make_the_same_archive(whole, tmp_path):
    write_archive(whole, tmp_path / "a.zip")
    for path in whole.rglob("*"):
        path.touch()
    write_archive(whole, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_checksums_are_those_of_sha256sum(whole, tmp_path):
    write_archive(whole, tmp_path / "a.zip")
    with opened(tmp_path / "a.zip") as inside:
        told = subprocess.run(
            ["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=inside, check=False, capture_output=True
        )
        assert told.returncode == 0, told.stderr
        (inside / "tidy/study.json").write_text("{}")
        with pytest.raises(UserError, match=r"tidy/study\.json"):
            check(inside)


def record(command, made, seconds=5.0, settings=None, **inputs):
    given = {name: [{"path": path, "hash": sha}] for name, (path, sha) in inputs.items()}
    return {
        "command": command, "settings": settings or {}, "inputs": given, "key": command, "code": "c0de",
        "libraries": {"python": "3.11.7", "realign": "0.1.0", "torch": "2.13.0+cpu"}, "seconds": seconds,
        "made": made,
    }  # fmt: skip


@pytest.fixture
def crate(tmp_path):
    """The metadata of an archive of four jobs: two outside files, a model that stays out, two results."""
    folder = tmp_path / "moved"
    write = {
        "tidy/study.json": json.dumps({"name": "mine", "title": "", "question": "Does it last?"}),
        "tidy/claims.parquet": "verdicts",
        "figures/figure 1.svg": "<svg/>",
        "backbones/base/model.manifest.json": Manifest("feed", {"model.safetensors": (3, "beef")}).dump(),
    }
    records = {
        "backbones/base/model": record("import_path", "2026-01-01T10:00:00Z", model=("/weights/base", "feed")),
        "provenance/study.json": record("describe_study", "2026-01-01T10:01:00Z"),
        "provenance/claims.parquet": record(
            "claims", "2026-01-01T10:02:00Z", 90, {"level": 0.05}, model=("results/mine/backbones/base/model", "feed")
        ),
        "figures/figure 1.svg": record(
            "figure_1", "2026-01-01T10:03:00Z",
            now=("up/results/mine/tidy/claims.parquet", hashlib.sha256(b"verdicts").hexdigest()),
            before=("results/mine/tidy/study.json", "0ld5ta7e0ld5ta7e"),
        ),
    }  # fmt: skip
    write |= {f"{place}.provenance.json": json.dumps(told) for place, told in records.items()}
    for place, text in write.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text)
    study = tmp_path / "config.yaml"
    study.write_text("study: {name: mine}")
    write_archive(folder, tmp_path / "a.zip", study, "https://creativecommons.org/licenses/by/4.0/")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        told = json.loads(archive.read("mine/ro-crate-metadata.json"))
        names = {name.removeprefix("mine/"): archive.read(name) for name in archive.namelist()}
    return {entity["@id"]: entity for entity in told["@graph"]}, names


def action_of(entities, command):
    return next(
        e for e in entities.values() if e["@type"] == "CreateAction" and e["name"].startswith(command)
    )


def test_an_archive_is_a_workflow_run_crate(crate):
    entities, names = crate
    root, workflow = entities["./"], entities["workflow/Snakefile"]
    assert entities["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    assert {"@id": "https://w3id.org/ro/wfrun/workflow/0.5"} in root["conformsTo"]
    assert root["mainEntity"] == {"@id": "workflow/Snakefile"}
    assert root["description"] == "Does it last?"
    assert root["datePublished"] == "2026-01-01T10:03:00Z"
    assert root["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert set(workflow["@type"]) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    assert entities[workflow["programmingLanguage"]["@id"]]["name"] == "Snakemake"
    assert {"workflow/rules/train.smk", "study.yaml"} <= names.keys()
    assert entities[workflow["input"]["@id"]]["workExample"] == {"@id": "study.yaml"}
    run = entities["#run"]
    assert (run["startTime"], run["endTime"]) == ("2026-01-01T09:59:55+00:00", "2026-01-01T10:03:00+00:00")
    assert run["instrument"] == root["mainEntity"]
    actions = {e["@id"] for e in entities.values() if e["@type"] == "CreateAction"}
    assert {mention["@id"] for mention in root["mentions"]} == actions
    assert len(actions) == 5


def test_every_file_of_an_archive_has_its_checksum_in_the_crate(crate):
    entities, names = crate
    listed = {unquote(part["@id"]): entities[part["@id"]] for part in entities["./"]["hasPart"]}
    assert listed.keys() == names.keys() - {"ro-crate-metadata.json", "SHA256SUMS"}
    for name, entity in listed.items():
        assert entity["sha256"] == hashlib.sha256(names[name]).hexdigest(), name
        assert entity["contentSize"] == str(len(names[name]))


def test_a_job_is_an_action_with_its_software_settings_inputs_outputs_and_times(crate):
    entities, _ = crate
    claims = action_of(entities, "claims")
    assert (claims["startTime"], claims["endTime"]) == (
        "2026-01-01T10:00:30+00:00",
        "2026-01-01T10:02:00+00:00",
    )
    assert claims["result"] == {"@id": "tidy/claims.parquet"}
    settings, model = (entities[e["@id"]] for e in claims["object"])
    assert json.loads(settings["value"]) == {"level": 0.05}
    assert (model["@type"], model["name"]) == ("CreativeWork", "backbones/base/model")
    assert action_of(entities, "import_path")["result"] == {"@id": model["@id"]}  # the same model
    tool = entities[claims["instrument"]["@id"]]
    assert tool["name"] == "realign claims"
    libraries = {
        entities[e["@id"]]["name"]: entities[e["@id"]]["softwareVersion"]
        for e in tool["softwareRequirements"]
    }
    assert libraries["torch"] == "2.13.0+cpu"
    assert entities[action_of(entities, "import_path")["object"][1]["@id"]]["name"] == "/weights/base"


def test_an_input_that_was_made_anew_since_is_not_taken_for_the_file_in_the_archive(crate):
    entities, _ = crate
    figure = action_of(entities, "figure_1")
    assert figure["result"] == {"@id": "figures/figure%201.svg"}
    _, now, before = (e["@id"] for e in figure["object"])
    assert now == "tidy/claims.parquet"
    assert before != "tidy/study.json"
    assert entities[before]["description"].startswith("An earlier state")


def test_all_that_a_crate_refers_to_is_described(crate):
    entities, _ = crate
    outside = ("https://w3id.org/ro/crate/", "https://bioschemas.org/", "https://snakemake.github.io")

    def references(value):
        if isinstance(value, list):
            return [r for v in value for r in references(v)]
        return [value["@id"]] if isinstance(value, dict) else []

    named = {r for entity in entities.values() for value in entity.values() for r in references(value)}
    assert {r for r in named - entities.keys() if not r.startswith(outside)} == set()


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "x.zip").write_text("nothing")
    with pytest.raises(UserError, match=r"x\.zip"), opened(tmp_path / "x.zip"):
        pass
    with pytest.raises(UserError, match=r"study\.json"):
        write_archive(tmp_path, tmp_path / "y.zip")


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x"])
def test_an_archive_is_never_written_under_the_name_of_another_format(whole, tmp_path, name, capsys):
    assert realign(["archive", "--results", str(whole), "--out", str(tmp_path / name)]) == 1
    assert "ends in .zip" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_figures_are_drawn_from_an_archive(whole, drawn, tmp_path):
    write_archive(whole, tmp_path / "a.zip")
    out = tmp_path / "again"
    assert (
        figures(["--results", str(tmp_path / "a.zip"), "--out", str(out), "--only", "figure_4", "table_12"])
        == 0
    )
    for name in ("figures/figure_4.svg", "tables/table_12.csv"):
        assert (out / name).read_bytes() == (drawn / name).read_bytes()


def test_figures_say_what_is_wrong_with_a_folder(tmp_path, capsys):
    assert realign(["figures", "--results", str(tmp_path)]) == 1
    assert "study.json: no such file" in capsys.readouterr().err


def rows(values, half=0.01):
    return pd.DataFrame(
        {"pair": "p", "measure": "cka", "layer_left": range(len(values)), "value": values,
         "ci_low": np.array(values) - half, "ci_high": np.array(values) + half,
         "se": half / 2.09 * np.array(values), "df": 19.0}  # an error is a number of a run, too
    ).reindex(columns=read_table("measures", []).columns)  # fmt: skip


def test_numbers_move_when_their_intervals_do_not_explain_it():
    both = compare(rows([0.5, 0.5, 0.5]), rows([0.505, 0.52, 0.5]), "measures")
    assert both["moved"].tolist() == [False, True, False]
    assert both["difference"].tolist() == pytest.approx([0.005, 0.02, 0.0])


def test_without_intervals_anything_beyond_rounding_moved():
    both = compare(rows([0.5, 0.5], np.nan), rows([0.5 + 1e-12, 0.5001], np.nan), "measures")
    assert both["moved"].tolist() == [False, True]


def test_rows_of_one_run_alone_are_told():
    both = compare(rows([0.5, 0.6]), rows([0.5]), "measures")
    assert both.loc[both["only_in"] == "a", "moved"].tolist() == [True]


def test_a_run_compared_with_itself_moved_nowhere(drawn, results):
    for kind, both in compare_runs(
        results, results, ["measures", "scores", "training", "mining", "backbones"]
    ).items():
        assert len(both) > 0, kind
        assert not both["moved"].any(), kind


def test_diff_from_the_command_line(whole, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    place = next((other / "tidy/scores").glob("tuned+full*.parquet"))
    frame = pd.read_parquet(place)
    frame.loc[0, "value"] += 0.2
    frame.to_parquet(place, index=False)
    picture = other / "figures/figure_gains.svg"
    picture.write_text(picture.read_text().replace("</svg>", "<g/></svg>"))
    out = tmp_path / "difference"
    words = ["diff", str(whole), str(other), "--out", str(out), "--tables", "scores", "claims", "--strict"]
    assert realign(words) == 3
    told = capsys.readouterr().out
    assert "scores: 1 of" in told
    assert "claims: 0 of" in told
    assert len(pd.read_csv(out / "scores.csv").query("moved")) == 1
    assert (out / "scores.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "figures.html").read_text()
    assert page.count("<img") == 2
    assert "<h2>Gains on benchmarks" in page
