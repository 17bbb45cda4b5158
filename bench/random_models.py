"""Models with random weights and texts of random letters, in the shapes and lengths of real ones."""

from pathlib import Path

import numpy as np


def byte_tokenizer():
    """A tokenizer for which a text's length in bytes is its length in tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<end>": 1} | {letter: i + 2 for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")


def make_backbone(place: Path, layers: int, width: int, longest: int) -> None:
    from transformers import Qwen2Config, Qwen2Model

    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(place)
    heads = max(2, width // 64)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 6,  # room for what a tokenizer class adds by itself
        hidden_size=width,
        intermediate_size=width * 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        max_position_embeddings=longest,
        pad_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    Qwen2Model(config).save_pretrained(place)


def make_texts(batch: int, negatives: int, longest: int, seed: int) -> dict[str, list]:
    """Queries and passages as long as those of retrieval sets: log-normal, passages with a long tail."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz      "))

    def text(length: int) -> str:
        return "q" + "".join(random.choice(letters, max(1, length - 1)))

    scale = longest / 512
    short = np.clip(random.lognormal(np.log(20 * scale), 0.5, batch), 4, longest).astype(int)
    long = np.clip(random.lognormal(np.log(110 * scale), 0.8, batch * (1 + negatives)), 6, longest).astype(
        int
    )
    passages = [text(int(n)) for n in long]
    return {
        "queries": [text(int(n)) for n in short],
        "passages": [passages[i * (1 + negatives) : (i + 1) * (1 + negatives)] for i in range(batch)],
    }


def export_untrained(backbone: Path, exported: Path, longest: int) -> None:
    from realign.embedder.export import export
    from realign.embedder.model import Embedder
    from realign.study.embedder import EmbedderSettings

    export(Embedder.load(backbone, EmbedderSettings(max_length=longest), device="cpu"), exported)
