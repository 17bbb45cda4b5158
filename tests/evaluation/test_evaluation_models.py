"""Vectors: sentence-transformers' own, whatever the directory, the batch, the device or the prompt."""

import json
import random
import shutil
import sys
import threading

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import AutoTokenizer, BertConfig, BertModel

from realign.evaluation import models
from realign.evaluation.encoder import Encoder
from realign.evaluation.prompts import PromptPlan
from realign.vectors.store import VectorStore


def texts(count=70):
    rng = random.Random(1)
    words = ["oak", "wave", "star", "root", "moon", "tide", "12", "cloud"]
    return [" ".join(rng.choice(words) for _ in range(rng.randint(1, 60))) for _ in range(count)]


@pytest.fixture(scope="session")
def foreign(backbone, tmp_path_factory):
    """A sentence-transformers directory of another family, with a mean over all tokens."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder / "plain")
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder / "plain")
    SentenceTransformer(str(folder / "plain"), device="cpu").save(str(folder / "model"))
    return folder / "model"


@pytest.mark.parametrize("prompt", ["", "Instruct: go\nQuery: "])
@pytest.mark.parametrize("which", ["embedder", "foreign"])
def test_vectors_are_sentence_transformers_own(which, prompt, request):
    folder = request.getfixturevalue(which)
    model = models.load(folder, "m")
    assert model.fallback is None
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts(), prompt=prompt or None)
    assert model.encode(texts(), prompt) == pytest.approx(expected, abs=2e-6)


def test_budget_window_and_devices_change_nothing(foreign, monkeypatch):
    whole = models.load(foreign, "m").encode(texts())
    monkeypatch.setattr(models, "WINDOW", 20)
    several = models.load(foreign, "m", over=["cpu", "cpu", "cpu"])
    several.budget = 100
    assert len(several.towers) == 3
    assert several.encode(texts()) == pytest.approx(whole, abs=2e-6)


def test_texts_are_cut_where_asked(embedder):
    long = "oak " * 500
    short = models.load(embedder, "m", max_length=16)
    assert short.max_length == 16
    own = SentenceTransformer(str(embedder), device="cpu")
    own.max_seq_length = 16
    assert short.encode([long]) == pytest.approx(own.encode([long]), abs=2e-6)


@pytest.mark.parametrize("kind", ["embedder", "foreign"])
def test_a_length_beyond_the_model_s_own_is_warned_of(kind, request, caplog):
    path = request.getfixturevalue(kind)
    own = models.load(path, "m").max_length
    assert "own limit" not in caplog.text
    model = models.load(path, "m", max_length=100_000)
    limit = {"embedder": 1024}.get(kind, own)  # its positions, which may be more than it was exported with
    assert model.max_length == limit
    assert f"texts are cut to {limit} tokens, the model's own limit, not to 100000" in caplog.text


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean"])
def test_similarities_in_blocks_are_those_of_the_whole(name):
    left, right = torch.randn(37, 8), torch.randn(23, 8)
    measure = models._similarity(name, pairwise=False)
    found = models.similarity_there(measure, left, right, torch.device("cpu"), elements=5 * 23)
    torch.testing.assert_close(found, measure(left, right))


def test_the_next_window_is_tokenized_while_one_is_encoded(embedder, monkeypatch):
    """The model waits in its first window until the second one's texts are tokenized."""
    monkeypatch.setattr(models, "WINDOW", 20)
    whole, model = models.load(embedder, "m").encode(texts()[:40]), models.load(embedder, "m")
    second, calls, real = threading.Event(), [], models.tokenize

    def noticed(*args):
        made = real(*args)
        calls.append(made)
        if len(calls) == 2:
            second.set()
        return made

    monkeypatch.setattr(models, "tokenize", noticed)
    forward = model.towers[0].forward

    def waiting(*args):
        assert second.wait(20)
        return forward(*args)

    model.towers[0].forward = waiting
    np.testing.assert_array_equal(model.encode(texts()[:40]), whole)


def test_a_model_that_prepares_texts_in_its_own_way_is_left_to_it(backbone, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    static = StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=16)
    own = SentenceTransformer(modules=[static], device="cpu")
    own.save(str(tmp_path / "static"))
    model = models.load(tmp_path / "static", "m")
    assert model.fallback is not None
    assert model.encode(texts()) == pytest.approx(own.encode(texts()), abs=1e-6)


def test_a_batch_that_does_not_fit_is_halved(embedder):
    model = models.load(embedder, "m")
    whole = model.encode(texts())
    tower = model.towers[0]
    sizes = []

    def forward(module, rows, prompt, inner=tower.forward):
        assert sys.exc_info()[0] is None  # an error in hand would keep the failed batch's tensors alive
        if len(rows) > 8:
            raise torch.cuda.OutOfMemoryError("too much")
        sizes.append(len(rows))
        return inner(module, rows, prompt)

    tower.forward = forward
    assert model.encode(texts()) == pytest.approx(whole, abs=2e-6)
    assert sum(sizes) == 70


def test_nothing_unpickles_and_no_code_of_the_directory_runs(embedder, tmp_path):
    folder = shutil.copytree(embedder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    models.load(folder, "m")
    assert not (tmp_path / "ran").exists()


def test_each_distinct_text_is_encoded_once_per_model(embedder, tmp_path):
    model = models.load(embedder, "m")
    asked = [*texts(), *texts()[:30]]
    store = VectorStore(tmp_path)
    first = Encoder(model, "r", PromptPlan("none"), store)
    vectors = first.vectors(asked, "")
    assert (first.asked, first.encoded) == (100, len(set(asked)))
    assert np.array_equal(vectors[70:], vectors[:30])
    second = Encoder(model, "r", PromptPlan("none"), VectorStore(tmp_path))
    assert np.array_equal(second.vectors([*asked, "new"], "")[:-1], vectors)
    assert second.encoded == 1
    other = Encoder(model, "r", PromptPlan("none"), VectorStore(tmp_path))
    other.vectors(asked, "Query: ")
    assert other.encoded == len(set(asked))  # another prompt makes another text
    bare = Encoder(model, "r", PromptPlan("none"))
    assert bare.vectors(asked, "") == pytest.approx(vectors, abs=2e-6)
    assert bare.vectors([], "").shape[0] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["embedder", "foreign"])
@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.99999), ("bfloat16", 0.99)])
def test_a_gpu_gives_the_cpu_s_vectors_and_similarities(kind, dtype, least, request):
    path = request.getfixturevalue(kind)
    on_gpu, on_cpu = models.load(path, "m", dtype=dtype, over=["cuda"]), models.load(path, "m", over=["cpu"])
    quick, exact = (np.asarray(model.encode(texts())) for model in (on_gpu, on_cpu))
    lengths = np.linalg.norm(quick, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((quick * exact).sum(axis=1) / lengths).min() > least
    found = on_gpu.similarity(exact, exact)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, on_cpu.similarity(exact, exact), rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_beyond_a_gpu_s_memory_is_halved(embedder, caplog):
    model = models.load(embedder, "m", over=["cuda"])
    whole, forward = model.encode(texts()), model.towers[0].forward

    def short(module, rows, prompt):
        if len(rows) > 20:
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
        return forward(module, rows, prompt)

    model.towers[0].forward = short
    assert model.encode(texts()) == pytest.approx(whole, abs=1e-4)
    assert "halving it" in caplog.text
