"""States in the file are those of transformers itself, whatever the batches, shards and processes."""

import json
import subprocess
import sys
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, Qwen3Config

from realign.artifacts.arguments import build_parser
from realign.artifacts.command import Interrupted, UserError, execute
from realign.artifacts.store import WorkStore
from realign.states import extract as extraction
from realign.states import plan as planning
from realign.states.capture import layer_names, tapped
from realign.states.commands import COUNT_TRACES, EXTRACT, TRACES
from realign.states.reader import StatesFile
from realign.states.shards import ShardWriter
from realign.study.states import Extract


def reference(model: Path, corpus: Path, attention: str) -> list[np.ndarray]:
    """Each text alone, by `output_hidden_states`."""
    config = AutoConfig.from_pretrained(model)
    config.is_causal = attention == "causal"
    network = AutoModel.from_pretrained(model, config=config, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    made = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            layers = network(ids, output_hidden_states=True, use_cache=False).hidden_states
            made.append(torch.stack(layers)[:, 0].numpy())
    return made


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_states_are_those_of_transformers(tmp_path, extract, backbone, corpus, attention):
    path, pooled = extract(tmp_path, backbone, corpus, attention=attention, hardware={"token_budget": 200})
    expected = reference(backbone, corpus, attention)
    with StatesFile(path) as states:
        assert states.layer_names == ["embedding", "block 1", "block 2", "block 3"]
        assert states.layers == 4
        for layer in range(4):
            whole = np.concatenate([text[layer] for text in expected])
            np.testing.assert_allclose(states.read(layer), whole, atol=2e-5)
        assert np.array_equal(states.position, np.concatenate([np.arange(t.shape[1]) for t in expected]))
        assert np.array_equal(np.diff(states.text_offsets), [t.shape[1] for t in expected])
        first = json.loads(corpus.read_text().splitlines()[0])["text"]
        spans = states.offsets[states.rows_of(0)]
        assert "".join(first[a:b] for a, b in spans) == first.replace(" ", "")
        for text in (0, 7, 22):
            np.testing.assert_allclose(states.read(-1)[states.rows_of(text)], expected[text][-1], atol=2e-5)
    with StatesFile(pooled) as states:
        assert states.pooled
        assert states.labels[:3] == ["a", "b", "a"]
        for layer in range(4):
            means = np.stack([text[layer].mean(axis=0) for text in expected])
            np.testing.assert_allclose(states.read(layer), means, atol=2e-5)


def test_selected_tokens_are_a_part_of_all(tmp_path, extract, backbone, corpus):
    whole, _ = extract(tmp_path / "all", backbone, corpus)
    some, _ = extract(tmp_path / "some", backbone, corpus, tokens={"count": 100, "skip_first": 3})
    with StatesFile(whole) as everything, StatesFile(some) as part:
        assert part.rows == 100
        assert part.position.min() >= 3
        rows = everything.text_offsets[part.text_index] + part.position
        assert np.array_equal(part.token_ids, everything.token_ids[rows])
        for layer in range(part.layers):
            np.testing.assert_allclose(part.read(layer), everything.read(layer)[rows], atol=2e-5)


def test_pooled_states_alone(tmp_path, extract, backbone, corpus):
    none, pooled = extract(tmp_path, backbone, corpus, tokens={"count": 0})
    with StatesFile(none) as states, StatesFile(pooled) as texts:
        assert states.rows == 0
        assert states.read(1).shape == (0, 32)
        assert texts.rows == 23


@pytest.mark.parametrize(("storage", "tolerance"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_narrow_storage_rounds_and_reads_back(tmp_path, extract, backbone, corpus, storage, tolerance):
    wide, _ = extract(tmp_path / "wide", backbone, corpus)
    narrow, _ = extract(tmp_path / "narrow", backbone, corpus, storage=storage)
    with StatesFile(wide) as a, StatesFile(narrow) as b:
        for layer in range(a.layers):
            exact = torch.from_numpy(a.read(layer)).to(getattr(torch, storage))
            assert torch.equal(b.read(layer, torch=True), exact)
            np.testing.assert_allclose(b.read(layer), a.read(layer), rtol=tolerance, atol=tolerance)
        assert b.read(0).dtype == (np.float16 if storage == "float16" else np.float32)


def test_states_too_large_for_float16_are_refused(tmp_path, extract, backbone, corpus):
    from safetensors.torch import load_file, save_file

    loud = tmp_path / "loud"
    loud.mkdir()
    for file in backbone.iterdir():
        (loud / file.name).write_bytes(file.read_bytes())
    weights = load_file(loud / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 3e5
    save_file(weights, loud / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="65504"):
        extract(tmp_path, loud, corpus, storage="float16")
    assert not (tmp_path / "states.h5").exists()


def test_the_last_block_before_the_norm(tmp_path, extract, backbone, corpus):
    path, _ = extract(tmp_path, backbone, corpus, before_norm=True)
    network = AutoModel.from_pretrained(backbone, dtype=torch.float32)
    with StatesFile(path) as states:
        assert states.layer_names == layer_names(3, True)
        assert states.layer_names[-2:] == ["block 3 before the norm", "block 3"]
        with torch.no_grad():
            normed = network.norm(states.read(-2, torch=True)).numpy()
        np.testing.assert_allclose(states.read(-1), normed, atol=2e-5)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(planning, "SHARD_TOKENS", 150)


def test_a_killed_job_continues_and_gives_the_same_bytes(
    tmp_path, extract, backbone, corpus, small_shards, monkeypatch
):
    whole = extract(tmp_path / "whole", backbone, corpus)
    write, made = ShardWriter.write, []

    def dies(self, index, told=lambda tokens: None):
        if len(made) == 3:
            raise Interrupted("killed")
        made.append(index)
        write(self, index, told)

    monkeypatch.setattr(ShardWriter, "write", dies)
    with pytest.raises(Interrupted):
        extract(tmp_path / "killed", backbone, corpus)
    assert not list((tmp_path / "killed").glob("*.h5"))
    again = []
    monkeypatch.setattr(
        ShardWriter,
        "write",
        lambda self, index, told=lambda tokens: None: (again.append(index), write(self, index, told)),
    )
    resumed = extract(tmp_path / "killed", backbone, corpus)
    assert made == [0, 1, 2]
    assert again[0] == 3
    for a, b in zip(whole, resumed, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_shards_change_nothing(tmp_path, extract, backbone, corpus, small_shards):
    many, pooled = extract(tmp_path / "many", backbone, corpus)
    planning.SHARD_TOKENS = 10**6
    one, pooled_one = extract(tmp_path / "one", backbone, corpus)
    for a, b in ((many, one), (pooled, pooled_one)):
        with h5py.File(a) as left, h5py.File(b) as right:
            assert dict(left.attrs).keys() == dict(right.attrs).keys()
            np.testing.assert_allclose(left["states"][:], right["states"][:], atol=2e-5)
            for name in ("token_ids", "text_index", "position", "text_offsets", "text_tokens"):
                assert np.array_equal(left[name][:], right[name][:])


def test_processes_share_the_threads(tmp_path, backbone, corpus, small_shards, monkeypatch):
    given = []

    def launch(*_, threads):
        given.append(threads)
        raise Interrupted("enough is seen")

    monkeypatch.setattr(extraction, "launch", launch)
    with pytest.raises(Interrupted):
        execute(
            EXTRACT,
            Extract.model_validate({"hardware": {"processes": 2}}),
            {"model": backbone, "corpus": corpus},
            {name: tmp_path / name for name in EXTRACT.outputs},
            WorkStore(tmp_path / "store"),
            threads=7,
        )
    assert given == [3]


@pytest.mark.slow
def test_processes_share_the_texts(tmp_path, extract, backbone, corpus, small_shards):
    alone = extract(tmp_path / "alone", backbone, corpus)
    shared = extract(tmp_path / "shared", backbone, corpus, hardware={"processes": 2})
    for a, b in zip(alone, shared, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_a_long_text_is_one_text_like_others(tmp_path, extract, backbone):
    corpus = tmp_path / "long.jsonl"
    corpus.write_text(json.dumps({"id": "long", "text": "abcdefgh " * 400}) + "\n")
    path, _ = extract(tmp_path, backbone, corpus, tokens={"count": 50})
    expected = reference(backbone, corpus, "bidirectional")[0]
    with StatesFile(path) as states:
        assert states.rows == 50
        np.testing.assert_allclose(states.read(-1), expected[-1][states.position], atol=5e-5)


def test_layers_that_were_handed_on_are_forgotten():
    """Memory is that of one layer: of all states handed to the sink, the last two at most are alive."""
    config = Qwen3Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=8, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, is_causal=False, use_cache=False,
    )  # fmt: skip
    model = AutoModel.from_config(config).eval()
    handed = []

    def sink(layer, states):
        assert layer == len(handed)
        assert sum(state() is not None for state in handed) <= 2
        handed.append(weakref.ref(states))

    with tapped(model, sink) as forward:
        forward(input_ids=torch.arange(40).unsqueeze(0), attention_mask=torch.ones(1, 40, dtype=torch.long))
    assert len(handed) == 9


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"id": "a", "text": ""}', "line 2: 'text' is missing or empty"),
        ('{"id": "a", "text": 3}', "line 2: 'text' is missing or empty"),
        ("{nonsense", "line 2: not JSON"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused(tmp_path, extract, backbone, line, complaint):
    corpus = tmp_path / "bad.jsonl"
    corpus.write_text('{"id": "fine", "text": "fine"}\n' + line + "\n")
    with pytest.raises(UserError, match=complaint):
        extract(tmp_path, backbone, corpus)


def test_the_command_line_shows_a_file(tmp_path, extract, backbone, corpus):
    path, _ = extract(tmp_path, backbone, corpus)
    command = [sys.executable, "-m", "realign.cli", "states", "show", path]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "4 layers" in shown
    assert "embedding" in shown


def test_a_tokens_characters_leave_out_blanks_before_them():
    text = " the  mean\n"
    spans = [(0, 0), (0, 4), (4, 6), (6, 10), (10, 11)]
    assert planning._trimmed(text, spans).tolist() == [[0, 0], [1, 4], [6, 6], [6, 10], [11, 11]]


@pytest.mark.parametrize("command", [EXTRACT, TRACES, COUNT_TRACES], ids=lambda c: c.name)
def test_no_flag_of_a_command_is_taken_twice(command):
    assert "--store" in build_parser(command).format_help()


def test_the_command_line_extracts(tmp_path, backbone, corpus):
    words = f"extract --model {backbone} --corpus {corpus} --attention causal --tokens.count 60"
    places = f"--store {tmp_path}/work --states {tmp_path}/s.h5 --pooled {tmp_path}/p.h5 --threads 1"
    command = [sys.executable, "-m", "realign.cli", *words.split(), "--storage", "bfloat16", *places.split()]
    subprocess.run(command, check=True, timeout=250)
    with StatesFile(tmp_path / "s.h5") as states:
        assert states.rows == 60
        assert states.attributes["attention"] == "causal"
        assert states.attributes["storage"] == "bfloat16"
    assert (tmp_path / "p.h5.manifest.json").is_file()
