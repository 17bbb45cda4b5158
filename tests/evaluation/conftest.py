"""A tiny embedder with random weights, and one small task of every type in files."""

import json
import random
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from realign.embedder.export import export
from realign.embedder.model import Embedder

sys.path.insert(0, str(Path(__file__).parent))  # helpers of these tests lie beside them
torch.set_num_threads(1)

TOPICS = {
    "sea": ["wave", "tide", "shore", "harbour", "sail", "anchor", "gull", "salt", "deep", "current"],
    "wood": ["oak", "pine", "bark", "root", "leaf", "moss", "branch", "forest", "timber", "shade"],
    "sky": ["cloud", "star", "moon", "wind", "storm", "dawn", "dusk", "comet", "rain", "light"],
}


def sentence(rng: random.Random, topic: str, longest: int = 30) -> str:
    words = [rng.choice(TOPICS[topic]) for _ in range(rng.randint(3, longest))]
    return " ".join([*words, rng.choice(["here", "there", "again", str(rng.randint(0, 999))])])


def save_backbone(folder: Path, seed: int = 0) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(words) for words in TOPICS.values()] * 3, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(
        folder
    )
    config = Qwen3Config(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=1024,
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def save_tasks(root: Path) -> Path:
    """A folder for each type of task, in the files that a study expects."""
    rng = random.Random(0)
    topics = list(TOPICS)
    texts = [(sentence(rng, topics[i % 3]), topics[i % 3]) for i in range(90)]
    write_lines(
        root / "retrieval/corpus.jsonl", [{"id": f"d{i}", "text": t} for i, (t, _) in enumerate(texts)]
    )
    write_lines(
        root / "retrieval/queries.jsonl",
        [{"id": f"q{i}", "text": " ".join(texts[i][0].split()[:5])} for i in range(24)],
    )
    write_lines(
        root / "retrieval/qrels.jsonl", [{"query": f"q{i}", "doc": f"d{i}", "score": 1} for i in range(24)]
    )
    write_lines(
        root / "reranking/test.jsonl",
        [
            {
                "query": texts[i][0][:20],
                "positive": [texts[i][0]],
                "negative": [texts[(i + k) % 90][0] for k in (1, 2, 3, 4)],
            }
            for i in range(20)
        ],
    )
    # no pair stands twice, not even mirrored: such ties are broken by rounding, in mteb too
    pairs = [(texts[i], texts[60 + (i * 7 + i // 3) % 30]) for i in range(60)]
    write_lines(
        root / "sts/test.jsonl",
        [
            {"sentence1": a, "sentence2": b, "score": 5.0 * (k == m) + rng.random() * 0.1}
            for (a, k), (b, m) in pairs
        ],
    )
    write_lines(
        root / "pair_classification/test.jsonl",
        [{"sentence1": a, "sentence2": b, "label": int(k == m)} for (a, k), (b, m) in pairs],
    )
    rows = [{"text": t, "label": k} for t, k in texts]
    write_lines(root / "classification/train.jsonl", rows[:60])
    write_lines(root / "classification/test.jsonl", rows[60:])
    write_lines(root / "clustering/test.jsonl", rows)
    return root


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return save_backbone(tmp_path_factory.mktemp("backbone") / "model")


@pytest.fixture(scope="session")
def embedder(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedder") / "model"
    export(Embedder.load(backbone), folder)
    return folder


@pytest.fixture(scope="session")
def tasks(tmp_path_factory):
    return save_tasks(tmp_path_factory.mktemp("tasks"))
