"""Language models in and out: a small one built from settings, any one loaded, stored in one layout."""

import sys
from pathlib import Path
from typing import Any

import torch

from realign.artifacts.command import UserError
from realign.backbones.layout import load_tokenizer, read_config
from realign.study.backbones import Architecture

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build_model(shape: Architecture, tokenizer: Any, seed: int) -> Any:
    """A Qwen3 model with fresh weights for a tokenizer."""
    from transformers import Qwen3Config

    return fresh_model(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.feed_forward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_value_heads,
            head_dim=shape.head_width,
            max_position_embeddings=shape.positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        seed,
    )


def fresh_model(config: Any, seed: int) -> Any:
    """A model of any known architecture with random weights that depend on the seed alone."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def no_bars_in_logs() -> None:
    """Keep transformers' progress bars to terminals; in a log they are one endless line."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A backbone with its language-modelling head."""
    from transformers import AutoModelForCausalLM

    no_bars_in_logs()
    read_config(folder)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(
            f"{folder} lacks weights of its language model ({missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}); "
            "an embedding model has no head to generate or be tuned with"
        )
    return model


def load_backbone(folder: Path) -> tuple[Any, Any]:
    """A backbone in float32 and its tokenizer, ready to be trained or sampled from."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{folder}: its tokenizer has no end-of-text token, so no answer could end")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return load_model(folder), tokenizer


def stored_dtype(stored: str, parent: Path | None = None) -> torch.dtype:
    """The type that weights are stored in; `keep` is the parent's own."""
    if stored != "keep" or parent is None:
        return DTYPES.get(stored, torch.float32)
    config = read_config(parent)
    name = config.get("dtype") or config.get("torch_dtype")
    return DTYPES.get(str(name), torch.float32)


def end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end an answer: the model's own and the tokenizer's."""
    stated = model.generation_config.eos_token_id if model.generation_config is not None else None
    own = stated if isinstance(stated, list) else [stated]
    return tuple(sorted({int(i) for i in [*own, tokenizer.eos_token_id] if i is not None}))
