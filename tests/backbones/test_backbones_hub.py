"""Fetching through the real client from a local server that speaks the hub's interface."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from backbones_help import same_weights
from backbones_hub_server import COMMIT, Hub
from safetensors.torch import load_file, save

PICKLE, EXTRA = "pytorch_model.bin", "onnx/model.onnx"


@pytest.fixture
def hub(base):
    with Hub.of(base) as server:
        server.files |= {
            PICKLE: b"\x80\x02.",
            EXTRA: b"no",
            "modeling.py": b"raise SystemExit",
            "README.md": b"#",
        }
        yield server


CHUNK = 10 << 20  # the client keeps what it receives in pieces of this size


@pytest.fixture
def heavy(hub, base):
    """The same model with weights of more than two pieces."""
    tensors = {**load_file(base / "model.safetensors"), "unused": torch.zeros(6 << 20)}
    hub.files["model.safetensors"] = save(tensors, {"format": "pt"})
    return hub


def fetch(hub: Hub, place: Path, repo="org/model", revision=COMMIT, **environment):
    """`realign fetch_hub` in a process of its own: what users run, with what users set."""
    words = ["fetch_hub", "--repo", repo, "--revision", revision, "--model", str(place / "model")]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "realign.cli",
            *words,
            "--store",
            str(place / "store"),
            "--log",
            str(place / "log"),
        ],
        env=clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(place / "hf")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_only_needed_files_arrive_and_the_model_is_whole(hub, base, tmp_path):
    hub.token = "hf_secretsecretsecret"
    done = fetch(hub, tmp_path, HF_TOKEN=hub.token)
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (tmp_path / "model").iterdir()}
    assert names == {p.name for p in base.iterdir()}  # neither pickle, code, nor other formats
    assert same_weights(tmp_path / "model", base)
    assert not [path for _, path, _ in hub.asked if path.endswith((PICKLE, EXTRA, ".py"))]
    assert (tmp_path / "hf" / "hub").is_dir()  # the user's own cache
    told = json.loads((tmp_path / "model.provenance.json").read_text())
    assert told["origin"]["revision"] == COMMIT
    assert told["licence"] == "mit"
    for file in [tmp_path / "log", tmp_path / "model.provenance.json", *(tmp_path / "store").rglob("*.json")]:
        assert hub.token not in file.read_text()
    assert hub.token not in done.stdout + done.stderr


def test_a_moving_revision_is_resolved_and_warned_about(hub, tmp_path):
    done = fetch(hub, tmp_path, revision="main")
    assert done.returncode == 0, done.stderr
    assert f"pin it with revision: {COMMIT}" in done.stderr
    assert json.loads((tmp_path / "model.provenance.json").read_text())["origin"]["revision"] == COMMIT


@pytest.mark.parametrize(
    ("change", "asked", "words"),
    [
        ({}, {"repo": "org/other"}, "the hub has no model 'org/other'"),
        ({}, {"revision": "f" * 40}, f"org/model has no revision '{'f' * 40}'"),
        ({"gated": True}, {}, "org/model is gated: accept its terms"),
        ({"gated": True}, {"HF_TOKEN": "hf_not_on_the_list"}, "org/model is gated: accept its terms"),
        ({"token": "hf_right"}, {"HF_TOKEN": "hf_wrong"}, "log in with `hf auth login`"),
    ],
    ids=["wrong id", "wrong revision", "gated, no token: 401", "gated, not on the list: 403", "wrong token"],
)
def test_what_the_user_can_mend_is_said(hub, tmp_path, change, asked, words):
    for name, value in change.items():
        setattr(hub, name, value)
    done = fetch(hub, tmp_path, **asked)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()


def test_a_cut_connection_is_resumed_where_it_broke_off(heavy, tmp_path):
    heavy.cut = {"model.safetensors": 1}
    done = fetch(heavy, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == heavy.files["model.safetensors"]
    assert heavy.ranges() == [None, f"bytes={CHUNK}-"]


def test_a_killed_fetch_continues_when_it_is_run_again(heavy, tmp_path):
    """File by file: the client begins a half-fetched file anew in a new process, and no other."""
    heavy.cut = {"model.safetensors": 10**6}
    words = [sys.executable, "-m", "realign.cli", "fetch_hub", "--repo", "org/model", "--revision", COMMIT]
    places = ["--model", str(tmp_path / "model"), "--store", str(tmp_path / "store")]
    environment = os.environ | {"HF_ENDPOINT": heavy.url, "HF_HOME": str(tmp_path / "hf")}
    process = subprocess.Popen([*words, *places], env=environment, stderr=subprocess.DEVNULL)
    while len(heavy.ranges()) < 2:  # it has received a piece and asks for the rest
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / "model").exists()
    heavy.cut, before = {}, len(heavy.asked)
    done = fetch(heavy, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == heavy.files["model.safetensors"]
    fetched = [
        path.rsplit("/", 1)[1]
        for method, path, _ in heavy.asked[before:]
        if method == "GET" and "/resolve/" in path
    ]
    assert fetched == ["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_with_another_hash_is_refused(hub, tmp_path, name):
    hub.corrupt = {name}
    done = fetch(hub, tmp_path)
    assert done.returncode == 1
    assert f"{name} does not have the hash that the hub states" in done.stderr
    assert not (tmp_path / "model").exists()
    hub.corrupt = set()
    assert fetch(hub, tmp_path).returncode == 0  # nothing bad stayed in the cache


def test_a_file_whose_hash_is_not_stated_is_warned_about(hub, tmp_path):
    """Some mirrors list files without hashes."""
    hub.unstated = {"model.safetensors"}
    done = fetch(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the hub states no hash of model.safetensors; taken unchecked" in done.stderr
    assert "tokenizer.json; taken unchecked" not in done.stderr


def test_a_repository_with_pickles_only_is_refused(hub, tmp_path):
    del hub.files["model.safetensors"]
    done = fetch(hub, tmp_path)
    assert done.returncode == 1
    assert "weights only as pytorch_model.bin, which would have to be unpickled" in done.stderr


def test_a_model_that_brings_code_is_refused(hub, tmp_path):
    config = json.loads(hub.files["config.json"])
    config["auto_map"] = {"AutoModel": "modeling.Model"}
    hub.files["config.json"] = json.dumps(config).encode()
    done = fetch(hub, tmp_path)
    assert done.returncode == 1
    assert "asks for code of its own (auto_map)" in done.stderr


def test_offline_the_cache_serves_and_is_checked(hub, base, tmp_path):
    assert fetch(hub, tmp_path).returncode == 0
    asked = len(hub.asked)
    elsewhere = tmp_path / "again"
    elsewhere.mkdir()
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = fetch(hub, elsewhere, **offline)
    assert done.returncode == 0, done.stderr
    assert len(hub.asked) == asked
    assert same_weights(elsewhere / "model", base)
    empty = fetch(hub, elsewhere, revision="f" * 40, **offline)
    assert "is not in the local cache" in empty.stderr
