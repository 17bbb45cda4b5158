"""Writing an embedder so that `SentenceTransformer(path)` loads it with nothing of ours.

The directory holds the model with its attention mode in `config.json`, the tokenizer, the pooling
with its treatment of instructions, the normalisation, the prompts and a model card. The files are
those of sentence-transformers, written here so that a training job need not import it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realign.embedder.model import Embedder
from realign.embedder.pooling import NAMES_ELSEWHERE

_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
_NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"


def export(
    embedder: Embedder,
    folder: Path | str,
    card: str = "",
    prompts: Mapping[str, str] | None = None,
    state: Mapping[str, Any] | None = None,
    dtype: Any = None,
) -> None:
    """Write an embedder's directory.

    `card` is the text of its `README.md`; `prompts` are named instructions (those it was loaded
    with if not given). `state` gives the weights by the model's own names where the model's are
    elsewhere, as after sharded training; `dtype` stores them in another precision.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(embedder, folder, state, dtype)
    _write_tokenizer(embedder, folder)
    settings = embedder.settings
    modules = [("", _TRANSFORMER), ("1_Pooling", _POOLING)]
    if settings.normalize:
        modules.append(("2_Normalize", _NORMALIZE))
    for place, _ in modules[1:]:
        (folder / place).mkdir(exist_ok=True)
    _write(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(modules)],
    )
    pooling = {
        "embedding_dimension": embedder.width,
        "pooling_mode": NAMES_ELSEWHERE[settings.pooling],
        "include_prompt": settings.pool_instruction,
    }
    _write(folder / "1_Pooling" / "config.json", pooling)
    if settings.normalize:
        _write(folder / "2_Normalize" / "config.json", {})
    _write(folder / "sentence_bert_config.json", _TRANSFORMER_CONFIG)
    named = dict(embedder.prompts if prompts is None else prompts)
    _write(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""} | named,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    (folder / "README.md").write_text(card or "# Embedder\n", encoding="utf-8")


_TRANSFORMER_CONFIG = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}


def _write_model(embedder: Embedder, folder: Path, state: Mapping[str, Any] | None, dtype: Any) -> None:
    model = embedder.model
    weights = dict(model.state_dict() if state is None else state)
    if dtype is not None:
        weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
    stored = model.config.dtype
    model.config.dtype = dtype or next(iter(weights.values())).dtype
    try:
        model.save_pretrained(folder, state_dict=weights, safe_serialization=True)
    finally:
        model.config.dtype = stored


def _write_tokenizer(embedder: Embedder, folder: Path) -> None:
    """The tokenizer, with the length at which texts are cut as its own limit."""
    tokenizer = embedder.tokenizer
    limit = tokenizer.model_max_length
    tokenizer.model_max_length = embedder.settings.max_length
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.model_max_length = limit


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
