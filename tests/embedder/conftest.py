"""Tiny backbones of the three tested families, with random weights and a byte-level tokenizer."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

torch.set_num_threads(1)

TEXTS = [
    "A cat sat on the mat, and the dog watched it from the door.",
    "Gradients of a cached batch equal those of the whole batch.",
    "Neighbours are found exactly, in blocks, whatever the device.",
    "x",
    "The mean of token states, padded on either side, is what it was before; " * 6,
    "Éric naïvely said: 12 × 34 = 408 … 你好",
]
FAMILIES = {
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 16}),
    "llama": (LlamaConfig, {}),
}


def save_tokenizer(folder: Path, vocabulary: int = 400) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS * 3, "Instruct: find the same\nQuery: "], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(
        folder
    )


def save_backbone(folder: Path, family: str, layers: int = 3, width: int = 64, seed: int = 0) -> Path:
    config_class, more = FAMILIES[family]
    config = config_class(
        vocab_size=512,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        **more,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {family: save_backbone(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="session")
def texts():
    return TEXTS
