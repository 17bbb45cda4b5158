"""Real teachers on disk, the command line, and the filter by margin."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from mining_driver import TableTeacher, read_rows, write_rows
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from realign.artifacts.command import UserError, execute
from realign.artifacts.store import WorkStore
from realign.cli import main
from realign.mining import margin
from realign.mining.commands import MARGIN_FILTER
from realign.mining.teachers import EmbedderTeacher, SentenceTransformersTeacher, load_teacher, of_length_one
from realign.study.mining import Margin, MarginJob, MineJob, Teaching

WORDS = [f"w{i}" for i in range(60)]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A tiny decoder-only model with a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("backbone") / "model"
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    Qwen3Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sentence_model(backbone, tmp_path_factory):
    """The same model saved by sentence-transformers, with a prompt for queries."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("st") / "model"
    model = SentenceTransformer(str(backbone), device="cpu")
    model.prompts = {"query": "w1 w2 ", "document": ""}
    model.save_pretrained(str(folder))
    return folder


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(count)]


def test_a_sentence_transformers_teacher_is_the_library_itself(sentence_model):
    from sentence_transformers import SentenceTransformer

    teacher = load_teacher(sentence_model, Teaching())
    assert isinstance(teacher, SentenceTransformersTeacher)
    library, texts = SentenceTransformer(str(sentence_model), device="cpu"), sentences(9)
    for side, encode in (("query", library.encode_query), ("passage", library.encode_document)):
        expected = encode(texts, normalize_embeddings=True)
        np.testing.assert_allclose(teacher.encode(texts, side), expected, atol=1e-6)
    plain = load_teacher(sentence_model, Teaching(query_prompt=""))
    expected = library.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(plain.encode(texts, "query"), expected, atol=1e-6)
    assert np.abs(plain.encode(texts, "query") - teacher.encode(texts, "query")).max() > 1e-3


@pytest.mark.parametrize("kind", ["backbone", "sentence_model"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_vectors_have_length_one_in_any_type(request, kind, dtype):
    teacher = load_teacher(request.getfixturevalue(kind), Teaching(dtype=dtype))
    lengths = np.linalg.norm(teacher.encode(sentences(40), "query").astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-6)


def test_inner_products_in_bfloat16_are_the_librarys_cosines(sentence_model):
    """The library mines by its cosine similarity, which divides by the lengths once more."""
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(sentence_model), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    teacher, texts = load_teacher(sentence_model, Teaching(dtype="bfloat16")), sentences(40)
    ours = teacher.encode(texts, "query") @ teacher.encode(texts, "passage").T
    queries, passages = (  # in one batch, as ours: how bfloat16 rounds depends on a batch's shape
        encode(texts, normalize_embeddings=True, batch_size=len(texts))
        for encode in (library.encode_query, library.encode_document)
    )
    np.testing.assert_allclose(ours, library.similarity(queries, passages), atol=1e-6)


def test_short_texts_share_batches_however_long_a_teacher_could_read(sentence_model):
    teacher = load_teacher(sentence_model, Teaching(max_length=32_768), token_budget=64)
    texts = sentences(40)
    expected = load_teacher(sentence_model, Teaching()).encode(texts, "query")
    sizes = []
    teacher._model().register_forward_pre_hook(
        lambda module, given: sizes.append(tuple(given[0]["input_ids"].shape))
    )
    np.testing.assert_allclose(teacher.encode(texts, "query"), expected, atol=1e-6)
    assert sum(rows for rows, _ in sizes) == 40
    assert all(rows * width <= 64 for rows, width in sizes)
    assert len(sizes) <= 10


def test_a_vector_of_zeros_stays_one():
    made = of_length_one(np.array([[3.0, 4.0], [0.0, 0.0]], np.float16))
    np.testing.assert_array_equal(made, np.array([[0.6, 0.8], [0, 0]], np.float32))


def test_a_backbone_teacher_is_the_embedder(backbone):
    from realign.embedder.model import Embedder

    settings = Teaching(query_prompt="w5 w6 ", max_length=16)
    teacher = load_teacher(backbone, settings)
    assert isinstance(teacher, EmbedderTeacher)
    texts = sentences(9)
    embedder = Embedder.load(backbone, settings.pooling.model_copy(update={"max_length": 16}))
    np.testing.assert_allclose(teacher.encode(texts, "query"), embedder.encode(texts, "w5 w6 "), atol=1e-6)
    np.testing.assert_allclose(teacher.encode(texts, "passage"), embedder.encode(texts), atol=1e-6)


def test_the_identity_holds_all_that_decides_a_vector(backbone, sentence_model):
    seen = [
        json.dumps(load_teacher(path, Teaching(**given)).identity(side), sort_keys=True)
        for path in (backbone, sentence_model)
        for given in ({}, {"query_prompt": "x"}, {"max_length": 8}, {"dtype": "bfloat16"})
        for side in ("query",)
    ]
    assert len(set(seen)) == len(seen)
    own_prompts = load_teacher(sentence_model, Teaching())
    assert own_prompts.identity("query") != own_prompts.identity("passage")
    weighted = Teaching(pooling={"pooling": "last"})
    assert load_teacher(backbone, weighted).identity("query") != json.loads(seen[0])


def test_no_teacher_there(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        load_teacher(tmp_path / "nowhere", Teaching())
    with pytest.raises(UserError, match=r"no teacher; expected modules\.json"):
        load_teacher(tmp_path, Teaching())


@pytest.mark.parametrize("kind", ["backbone", "sentence_model"])
def test_the_command_line_mines_with_any_teacher(tmp_path, request, kind, capsys):
    teacher = request.getfixturevalue(kind)
    texts = sentences(40, seed=3)
    rows = [(" ".join(text.split()[:2]), [text], []) for text in dict.fromkeys(texts)]
    raw = write_rows(tmp_path / "raw.jsonl", rows)
    out, report = tmp_path / "mined.jsonl", tmp_path / "report.json"
    words = ["mine", "--raw", str(raw), "--teacher", str(teacher), "--pairs", str(out)]
    words += ["--report", str(report), "--store", str(tmp_path / "store"), "--too-few", "keep"]
    words += ["--range-max", "20", "--relative-margin", "null", "--negatives", "2"]
    assert main(words) == 0
    counted = json.loads(report.read_text(encoding="utf-8"))
    assert counted["rows"]["complete"] == counted["rows"]["in"] == len(rows)
    assert main([*words, "--lexical", "{}"]) == 1
    assert "give one teacher" in capsys.readouterr().err


def by_the_scripts_steps(margins: Sequence[float], threshold: float, most: int | None) -> list[int]:
    """The published steps one by one: rank, look for the first at or below, go on after it."""
    ranked = sorted(range(len(margins)), key=lambda i: margins[i], reverse=True)
    stop = -1
    if threshold > 0:
        for place, row in enumerate(ranked):
            if margins[row] <= threshold:
                stop = place
                break
    return ranked[stop + 1 :][:most]


@pytest.mark.parametrize("threshold", [0.5, 0.0, -1.0, 2.0])
@pytest.mark.parametrize("most", [None, 3])
def test_both_presets(threshold, most):
    margins = np.array([0.9, 0.1, 0.5, 0.7, 0.5, -0.2, 0.3])
    published = Margin(preset="published", threshold=threshold, max_samples=most)
    assert margin.select(margins, published).tolist() == by_the_scripts_steps(margins, threshold, most)
    documented = Margin(threshold=threshold, max_samples=most)
    expected = sorted(np.flatnonzero(margins > threshold), key=lambda i: -margins[i])[:most]
    assert margin.select(margins, documented).tolist() == expected
    in_order = documented.model_copy(update={"order": "file"})
    assert margin.select(margins, in_order).tolist() == sorted(expected)


def test_margin_filter_reads_margins_off_the_teacher(tmp_path, monkeypatch):
    def vector(score):
        return np.array([score, np.sqrt(1 - score**2)], np.float32)

    vectors = {
        "q": vector(1.0),
        "p": vector(0.9),
        "far": vector(0.1),
        "mid": vector(0.3),
        "near": vector(0.8),
    }
    rows = [
        ("q", ["p"], ["far", "mid", "far"]),
        ("q", ["p"], ["far", "near", "mid"]),
        ("q", ["p"], ["far"]),
    ]
    mined = write_rows(tmp_path / "mined.jsonl", rows)
    teacher = TableTeacher(vectors)
    monkeypatch.setattr(margin, "teacher_of", lambda job, texts: teacher)
    places = {name: tmp_path / f"{name}.out" for name in ("pairs", "margins", "report")}
    settings = MarginJob(margin=Margin(threshold=0.5))
    execute(MARGIN_FILTER, settings, {"mined": mined}, places, WorkStore(tmp_path / "store"))
    assert [row["neg"] for row in read_rows(places["pairs"])] == [["far", "mid", "far"]]
    table = pq.read_table(places["margins"]).to_pandas()
    np.testing.assert_allclose(table.margin, [0.6, 0.1, np.nan], atol=1e-6)
    assert table.kept.tolist() == [True, False, False]
    assert max(teacher.asked.values()) == 1
    settings = MarginJob(margin=Margin(threshold=1.5))
    with pytest.raises(UserError, match="leaves no row"):
        execute(MARGIN_FILTER, settings, {"mined": mined}, places, WorkStore(tmp_path / "store"))


def test_costs_are_no_part_of_the_work():
    assert MineJob(token_budget=64).as_slice() == MineJob().as_slice()
    assert MineJob(negatives=2).as_slice() != MineJob().as_slice()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["backbone", "sentence_model"])
@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.99999), ("bfloat16", 0.99)])
def test_a_teacher_on_a_gpu_gives_the_cpu_s_vectors_and_neighbours(kind, dtype, least, request, monkeypatch):
    folder, texts = request.getfixturevalue(kind), sentences(200)
    on_gpu = load_teacher(folder, Teaching(dtype=dtype)).encode(texts, "query")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = load_teacher(folder, Teaching()).encode(texts, "query")
    assert (on_gpu * on_cpu).sum(axis=1).min() > least
