"""A tiny backbone, an embedder's directory, and a corpus with texts of very different lengths."""

import json
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from realign.artifacts.command import execute
from realign.artifacts.store import WorkStore
from realign.states.commands import EXTRACT
from realign.study.states import Extract

torch.set_num_threads(1)


def save_backbone(folder: Path, seed: int = 0, family=Qwen3Config, **more) -> Path:
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="!").save_pretrained(folder)
    config = family(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=4096,
        initializer_range=0.2,
        **more,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return save_backbone(tmp_path_factory.mktemp("states") / "backbone")


@pytest.fixture(scope="session")
def sibling(tmp_path_factory):
    return save_backbone(tmp_path_factory.mktemp("states") / "sibling", seed=1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    draw = random.Random(0)
    words = [
        "the",
        "mean",
        "of",
        "token",
        "states",
        "is",
        "kept",
        "in",
        "order",
        "whatever",
        "batch",
        "a",
        "text",
        "is",
        "in",
    ]
    path = tmp_path_factory.mktemp("corpus") / "probe.jsonl"
    with path.open("w") as stream:
        for i in range(23):
            text = " ".join(draw.choice(words) for _ in range(draw.choice([1, 2, 5, 9, 20, 40])))
            stream.write(json.dumps({"id": f"t{i}", "text": text, "label": "ab"[i % 2]}) + "\n")
    return path


def _extract(folder: Path, model: Path, corpus: Path, **settings) -> tuple[Path, Path]:
    asked = Extract.model_validate({"tokens": {"count": None}} | settings)
    outputs = {"states": folder / "states.h5", "pooled": folder / "states.pooled.h5"}
    execute(EXTRACT, asked, {"model": model, "corpus": corpus}, outputs, WorkStore(folder / "work"))
    return outputs["states"], outputs["pooled"]


@pytest.fixture(scope="session")
def extract():
    """The command, with all tokens kept unless asked otherwise: the paths of tokens and of pooled states."""
    return _extract
