"""`realign compare`: the study that it writes, and its verdict on models whose relation is known."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import realign
from micro_study import save_backbone, write_given
from realign.artifacts.command import UserError
from realign.results.columns import COLUMNS
from realign.results.statistics import UNKNOWN, Estimate
from realign.study.description import PairEntry
from realign.study.errors import StudyError
from realign.study.load import load_study
from realign.tools.compare import (
    Line,
    main,
    not_compared,
    parser,
    read_lines,
    read_study,
    reads_as,
    reads_as_number,
    reads_as_readout,
    source_of,
    study_file,
    write_study,
)


def written(folder, *words):
    asked = parser().parse_args([*map(str, words), "--out", str(folder)])
    write_study(asked)
    return study_file(asked), yaml.safe_load(study_file(asked).read_text())


@pytest.fixture
def models(tmp_path):
    for name in ("base", "tuned", "more"):
        make_model(tmp_path / "models" / name)
    return tmp_path / "models"


def make_model(folder):
    """A folder that looks like a model's."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")


def test_two_folders_are_a_pair_beside_random_weights(models, tmp_path):
    file, study = written(tmp_path, models / "base", models / "tuned", "--kind", "rlvr")
    assert file == tmp_path / "compare-base.yaml"
    assert study["backbones"] == {
        "base": {"path": str(models / "base")},
        "tuned": {"path": str(models / "tuned")},
        "random-weights": {"untrained": {"like": "base"}},
    }
    assert [(p["left"], p["right"], p["kind"]) for p in study["pairs"]] == [
        ("base", "tuned", "rlvr"),
        ("base", "random-weights", "control"),
    ]
    assert set(study["text"]["probes"]) == {"docs", "reasoning"}
    claims = load_study(file).claims.all()
    assert list(claims) == ["basis_kept", "geometry_kept", "neighbourhoods_kept", "readout_kept"]
    assert {test.kind for claim in claims.values() for test in claim.tests} == {"any"}
    assert {test.attentions for claim in claims.values() for test in claim.tests} == {("causal",)}


def test_models_may_differ_in_depth_width_architecture_and_tokenizer(models, tmp_path, monkeypatch, capsys):
    for name in ("base", "tuned", "more"):
        (models / name / "tokenizer.json").write_text("other" if name == "more" else "same")
    ran, looked = [], []

    def run(_):
        ran.append(Path("compare-base.yaml").read_text())
        return 1 if len(ran) == 2 else 0

    def look(_, files):
        looked.append([str(file) for file in files])
        return 0

    class Cut(list):
        first = property(lambda self: {"ids": 1})

    monkeypatch.setattr("realign.tools.compare.run", run)
    monkeypatch.setattr("realign.tools.compare._make", look)
    monkeypatch.setattr("realign.backbones.corpus.read_texts", lambda _: [])
    monkeypatch.setattr("realign.backbones.layout.load_tokenizer", lambda _: None)
    monkeypatch.setattr("realign.backbones.pair.cuts", lambda *_: Cut())
    monkeypatch.setattr("realign.tools.compare.read_lines", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    one = [str(models / "base"), str(models / "tuned"), "--out", "one"]
    assert main(one) == 0
    assert len(ran) == 1
    assert not looked  # equal files of tokenizers need no look at texts
    study = read_study(study_file(parser().parse_args(one)))
    assert {tuple(pair.get("allow", ())) for pair in study["pairs"]} == {
        ("depth", "width", "architecture"),
        (),
    }
    assert study["hrsa"]["alignment"] == "ids"
    other = [str(models / "base"), str(models / "more"), "--out", "other"]
    assert main(other) == 1  # its run fails
    assert "results/compare-base/backbones/more/model.manifest.json" in looked[0]
    assert "alignment: offsets" in ran[1]
    assert "more: another tokenizer; compared are tokens of the same characters" in capsys.readouterr().err
    assert not Path("other/compare-base.yaml").exists()
    assert main(other) == 0
    study = read_study(Path("other/compare-base.yaml"))
    assert (study["hrsa"]["alignment"], study["states"]["tokens"]["count"]) == ("offsets", None)
    with pytest.raises(UserError, match=r"more: another tokenizer than base's.*write into another folder"):
        main([str(models / "base"), str(models / "more"), "--out", "one"])
    assert "more" not in read_study(Path("one/compare-base.yaml"))["backbones"]


def test_a_level_without_a_number_is_explained():
    lines = [Line("a--vs--b", "geometry", "cka_debiased", "docs", 0.5, 0.4, 0.6, 0.1, "")]
    lines += [Line("a--vs--b", "weights", "update_norm", "", np.nan, np.nan, np.nan, np.nan, "")]
    lines += [Line("a--vs--c", "geometry", "cka_debiased", "docs", 0.5, 0.4, 0.6, 0.1, "")]
    pairs = [PairEntry(name=f"a--vs--{right}", left="a", right=right, kind="other") for right in "bd"]
    asked = parser().parse_args(["a", "b", "--levels", "geometry", "weights"])
    no_tensor = "no weights, since the two share no tensor of the same shape"
    assert list(not_compared(asked, pairs, lines)) == [
        f"a → b: {no_tensor}",
        "a → d: no geometry, since too few tokens are left",
        f"a → d: {no_tensor}",
    ]
    asked = parser().parse_args(["a", "b", "--levels", "behaviour", "--attention", "bidirectional"])
    assert list(not_compared(asked, pairs[:1], lines)) == [
        "a → b: no behaviour, since it is read with causal attention alone"
    ]


def test_the_surroundings_are_chosen(models, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # what the command sets is undone with it
    monkeypatch.setattr(
        "realign.tools.compare.run",
        lambda _: seen.append([os.environ.get(n) for n in ("CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE")]) or 1,
    )
    words = [str(models / "base"), str(models / "tuned"), "--out", str(tmp_path)]
    for name in ("base", "tuned"):
        (models / name / "tokenizer.json").write_text("same")
    assert main([*words, "--device", "cpu", "--offline"]) == 1
    assert seen == [["", "1"]]
    with pytest.raises(UserError, match=r"--device cuda: no GPU is visible here"):
        main([*words, "--device", "cuda"])


def test_a_further_model_joins_the_earlier_ones(models, tmp_path):
    written(tmp_path, models / "base", models / "tuned", "--kind", "rlvr")
    _, study = written(tmp_path, models / "base", models / "more", "--kind", "sft")
    assert [(p["right"], p["kind"]) for p in study["pairs"]] == [
        ("tuned", "rlvr"),
        ("more", "sft"),
        ("random-weights", "control"),
    ]
    make_model(models / "else" / "more")
    with pytest.raises(UserError, match=r"'more' is another model there.*--out"):
        written(tmp_path, models / "base", models / "else" / "more")


def test_the_latest_kind_counts(models, tmp_path):
    written(tmp_path, models / "base", models / "tuned", "--kind", "sft")
    _, study = written(tmp_path, models / "base", models / "tuned", "--kind", "rlvr")
    assert [p["kind"] for p in study["pairs"]] == ["rlvr", "control"]


def test_a_call_that_fails_leaves_the_study_of_before(models, tmp_path, monkeypatch):
    file, before = written(tmp_path, models / "base", models / "tuned")
    monkeypatch.setattr("realign.tools.compare.run", lambda words: 1)
    assert main([str(models / "base"), "nowhere/model", "--out", str(tmp_path)]) == 1
    assert yaml.safe_load(file.read_text()) == before
    with pytest.raises(StudyError, match="limit"):
        main([str(models / "base"), str(models / "more"), "--limit", "1", "--out", str(tmp_path)])
    assert yaml.safe_load(file.read_text()) == before


def test_a_first_call_that_fails_leaves_no_study(models, tmp_path, monkeypatch):
    monkeypatch.setattr("realign.tools.compare.run", lambda words: 1)
    assert main([str(models / "base"), "nowhere/model", "--out", str(tmp_path)]) == 1
    assert not list(tmp_path.glob("*.yaml"))


def test_a_long_name_is_cut(models, tmp_path):
    name = "deepseek-r1-distill-qwen-1.5b-multilingual-reasoning-v2"
    make_model(models / name)
    _, study = written(tmp_path, models / "base", models / name)
    assert list(study["backbones"])[1] == name[:40]


def test_a_model_beside_itself_has_a_name_of_its_own(models, tmp_path):
    _, study = written(tmp_path, models / "base", models / "base")
    assert study["backbones"]["base"] == study["backbones"]["base.2"]


def test_names_of_models_stay_their_own(models, tmp_path):
    for run in ("one", "two"):
        make_model(models / run / "checkpoint-500")
    _, study = written(tmp_path, models / "one" / "checkpoint-500", models / "two" / "checkpoint-500")
    assert list(study["backbones"]) == ["checkpoint-500", "checkpoint-500.2", "random-weights"]


def test_numbers_of_an_earlier_call_with_other_settings_are_left_out(models, tmp_path, monkeypatch):
    """Files of both attention modes lie there; the study names one of them."""
    file, content = written(tmp_path, models / "base", models / "tuned", "--levels", "geometry")
    assert content["hrsa"]["backbone_attention"] == ["causal"]
    monkeypatch.chdir(tmp_path)
    study, folder = load_study(file), tmp_path / "results/compare-base/tidy/measures"
    for pair, kind in (("base--vs--tuned", "other"), ("base--vs--random-weights", "control")):
        (folder / pair).mkdir(parents=True)
        for attention, value in (("causal", 0.9), ("bidirectional", 0.3)):
            for family in ("linear", "neighbours", "probe"):
                rows = pd.DataFrame(columns=COLUMNS["measures"])
                if family == "linear":
                    about = {"study": "compare-base", "stage": "backbone", "pair": pair, "kind": kind}
                    number = {"measure": "cka_debiased", "statistic": "mean_over_layers", "value": value}
                    errors = {"ci_low": value - 0.01, "ci_high": value + 0.01, "se": 0.005, "df": 19.0}
                    rows.loc[0] = about | {"corpus": "docs", "attention": attention} | number | errors
                rows.to_parquet(folder / pair / f"docs+{attention}.{family}.parquet")
                if attention == "causal" and kind == "other":
                    rows.to_parquet(folder / pair / f"reasoning+causal.{family}.parquet")
    pair = PairEntry(name="base--vs--tuned", left="base", right="tuned", kind="other")
    (line,) = read_lines(study, [pair])
    assert (line.measure, line.value, line.random_weights) == ("cka_debiased", 0.9, 0.9)


def test_somebody_elses_study_is_left_alone(models, tmp_path):
    (tmp_path / "compare-base.yaml").write_text("study: {name: mine}\n")
    with pytest.raises(UserError, match="is no study of `realign compare`"):
        written(tmp_path, models / "base", models / "tuned")
    assert (tmp_path / "compare-base.yaml").read_text() == "study: {name: mine}\n"


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("Qwen/Qwen2.5-0.5B", {"hub": "Qwen/Qwen2.5-0.5B"}),
        ("Qwen/Qwen2.5-0.5B@060db64", {"hub": "Qwen/Qwen2.5-0.5B", "revision": "060db64"}),
        ("pypi:tiny==1.0:model.gguf", {"pypi": "tiny==1.0", "file": "model.gguf"}),
    ],
)
def test_models_from_elsewhere(model, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source_of(model) == source


@pytest.mark.parametrize("model", ["nowhere", "./models/basse", "models/basse", "/no/such/folder", "a/b/c"])
def test_a_mistyped_model_is_named(model, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{model}: no such folder"):
        source_of(model)


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="no GGUF file"):
        source_of(str(tmp_path / "model.bin"))


def test_own_texts_and_labels(models, tmp_path):
    (tmp_path / "texts.txt").write_text("One text.\n\nAnother text.\n")
    _, study = written(tmp_path, models / "base", models / "tuned", "--texts", tmp_path / "texts.txt")
    probe = study["text"]["probes"]["texts"]
    assert Path(probe["file"]) == tmp_path / "compare-base.texts.jsonl"
    lines = Path(probe["file"]).read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["One text.", "Another text."]
    (tmp_path / "rows.jsonl").write_text('{"body": "a", "topic": "b"}\n')
    words = ("--texts", tmp_path / "rows.jsonl", "--column", "body", "--labels", "topic")
    _, study = written(tmp_path, models / "base", models / "tuned", *words)
    assert study["text"]["probes"]["texts"] == {
        "file": str(tmp_path / "rows.jsonl"), "text": "body", "label": "topic", "limit": 128,
    }  # fmt: skip
    with pytest.raises(UserError, match="no such file"):
        written(tmp_path, models / "base", models / "tuned", "--texts", tmp_path / "nowhere.jsonl")


def test_one_model_is_too_few(models, tmp_path):
    with pytest.raises(UserError, match="two models or more"):
        written(tmp_path, models / "base")


@pytest.mark.parametrize(
    ("value", "floor", "words"),
    [
        (1.0, 0.2, "the same"),
        (0.95, 0.2, "nearly the same"),
        (0.7, 0.2, "partly changed"),
        (0.7, 0.6, "mostly changed"),
        (0.25, 0.2, "no more alike than with random weights"),
        (0.1, 0.2, "no more alike than with random weights"),
        (0.7, float("nan"), "partly changed"),
        (1.0, 1.0, "the same"),
        (float("nan"), 0.2, "could not be measured"),
    ],
)
def test_a_similarity_reads_by_its_place_above_random_weights(value, floor, words):
    assert reads_as(value, floor) == words


@pytest.mark.parametrize(
    ("measure", "value", "words"),
    [
        ("update_norm", 0.0, "the same"),
        ("update_norm", 0.0314, "the weights moved by 0.031 of their size"),
        ("update_sparsity", 1.0, "the same"),
        ("update_sparsity", 0.756, "76% of the weights keep their bits in bfloat16"),
        ("update_norm", float("nan"), "could not be measured"),
        ("token_kl", 0.0, "the same"),
        ("token_kl", 1.25, "1.2 nats a token"),
        ("top1_agreement", 0.87, "both expect the same next token in 87% of places"),
    ],
)
def test_weights_and_behaviour_in_words(measure, value, words):
    assert reads_as_number(measure, value) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Estimate(0.0, 0.0), "the same"),
        (Estimate(-0.01, 0.01), "the same"),
        (Estimate(-0.3, 0.05), "a probe of the first model reads less from the second"),
        (Estimate(0.3, 0.05), "a probe of the first model reads more from the second"),
        (Estimate(-0.1, 0.2), "undecided: too few texts"),
        (UNKNOWN, "could not be measured"),
    ],
)
def test_a_change_of_readout_in_words(change, words):
    assert reads_as_readout(change) == words


def rotated(folder, base):
    """The base in another basis: an orthogonal map of the residual stream, whose norms weigh all alike."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    width = model.config.hidden_size
    turn = torch.linalg.qr(
        torch.randn(width, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )[0]
    reads, writes = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "lm_head"), ("o_proj", "down_proj")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            part = name.split(".")[-2]
            if part in reads or part == "embed_tokens":
                weight.copy_(weight.double() @ turn)
            elif part in writes:
                weight.copy_(turn.T @ weight.double())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


def shuffled(folder, base):
    """The base with each weight matrix's numbers in random order."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, draw = AutoModelForCausalLM.from_pretrained(base), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=draw)].view_as(weight))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_itself_is_the_same_a_rotated_copy_has_another_basis_and_shuffled_weights_are_unrelated(
    tmp_path, monkeypatch
):
    save_backbone(tmp_path / "base", 0)
    rotated(tmp_path / "rotated", tmp_path / "base")
    shuffled(tmp_path / "shuffled", tmp_path / "base")
    write_given(tmp_path / "given")
    words = [
        *("base", "base", "rotated", "shuffled", "--texts", "given/texts.jsonl", "--labels", "label"),
        *("--tokens", "1000", "--cores", "2", "--json"),
    ]

    def compare():
        done = subprocess.run(
            [sys.executable, "-m", "realign.cli", "compare", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        lines = json.loads(done.stdout)
        told = {}
        for line in lines:
            told.setdefault(line["pair"].removeprefix("base--vs--"), {})[line["measure"]] = line["reads"]
        return told

    told = compare()
    assert set(told["base.2"].values()) == {"the same"}
    of_weights = {"update_norm", "update_sparsity"}
    of_states = {"correlation", "basis_kept", "cka_debiased", "knn_overlap", "probe"}
    assert set(told["base.2"]) == of_weights | of_states | {"token_kl", "top1_agreement"}
    assert all("the same" not in told["rotated"][measure] for measure in of_weights)
    assert {told["rotated"][measure] for measure in ("token_kl", "top1_agreement")} == {"the same"}
    assert told["shuffled"]["top1_agreement"] != "the same"
    basis = {told["rotated"][measure] for measure in ("correlation", "basis_kept")}
    assert basis == {"no more alike than with random weights"}
    assert {told["rotated"][measure] for measure in ("cka_debiased", "knn_overlap", "probe")} == {"the same"}
    assert told["shuffled"]["probe"] != "the same"  # by how much less it reads, so few texts leave open
    likeness = {told["shuffled"][measure] for measure in ("correlation", "cka_debiased", "knn_overlap")}
    assert likeness == {"no more alike than with random weights"}
    # Without a common rotation there may be none to read a share from.
    assert told["shuffled"]["basis_kept"] in {*likeness, "could not be measured"}
    page = (tmp_path / "results/compare-base/report.html").read_text()
    assert "Of 4 claims" in page

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "results/compare-base").rglob("*.log")}
    assert made
    monkeypatch.chdir(tmp_path)
    again = realign.compare(
        "base", "base", "rotated", "shuffled", texts="given/texts.jsonl", labels="label", tokens=1000, cores=2
    )
    assert {path: path.stat().st_mtime_ns for path in made} == made  # no job ran again
    rows = again.summary.assign(pair=again.summary["pair"].str.removeprefix("base--vs--"))
    assert {
        pair: dict(zip(r["measure"], r["reads"], strict=True)) for pair, r in rows.groupby("pair")
    } == told
    assert {"base--vs--rotated", "base--vs--random-weights"} <= set(again.measures["pair"])
    assert again.report().read_text() == page
    assert "base → rotated" in again._repr_html_()


def test_from_python_a_list_of_texts_is_enough_and_a_mistake_is_an_error(models, tmp_path, monkeypatch):
    asked = []

    def called(command, **_):
        asked.extend(command)
        return subprocess.CompletedProcess(command, 0, stdout=json.dumps([{"pair": "base--vs--tuned"}]))

    monkeypatch.setattr("realign.tools.compared.subprocess.run", called)
    pair = str(models / "base"), str(models / "tuned")
    options = {"levels": ["geometry"], "quick": True, "offline": True, "json": False}
    found = realign.compare(*pair, texts=["One.", "Two."], out=tmp_path, **options)
    assert "--offline" in asked
    assert found.study == tmp_path / "compare-base.yaml"
    assert list(found.summary["pair"]) == ["base--vs--tuned"]
    assert asked[asked.index("--levels") + 1] == "geometry"
    assert "--quick" in asked
    texts = Path(asked[asked.index("--texts") + 1]).read_text().splitlines()
    assert [json.loads(line)["text"] for line in texts] == ["One.", "Two."]
    for options in ({"levels": ["geometri"]}, {"colour": "red"}, {"tokens": "many"}):
        with pytest.raises(UserError, match=r"realign\.compare takes the options of `realign compare`"):
            realign.compare(*pair, **options)
    monkeypatch.setattr(
        "realign.tools.compared.subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 1)
    )
    with pytest.raises(UserError, match="did not end"):
        realign.compare(*pair, out=tmp_path)


def test_a_mistake_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    from realign.cli import main as command

    assert command(["compare", "nowhere", "neither"]) == 1
    assert capsys.readouterr().err.startswith("realign compare: nowhere: no such folder")
