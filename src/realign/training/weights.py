"""A backbone made ready for training, and what training made of it as an embedder's directory."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from realign.artifacts.command import UserError
from realign.embedder.export import export
from realign.embedder.model import Embedder
from realign.engine.checkpoints import seed_everything
from realign.engine.deepspeed_setup import restore_parameters
from realign.engine.devices import precision_on
from realign.seeds import derive_seed
from realign.study.recipe import Lora, Train


def load_for_training(backbone: Path, order: Train, device: torch.device) -> Embedder:
    """The backbone as an embedder with everything a recipe trains switched on."""
    recipe = order.recipe
    dtype = torch.bfloat16 if precision_on(device, recipe.precision) == "bf16" else torch.float32
    embedder = _load(backbone, order, device, dtype)
    if recipe.hardware.activation_checkpointing:
        embedder.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if recipe.lora is not None:
            embedder.model.enable_input_require_grads()
    return embedder.train()


def _load(backbone: Path, order: Train, device: torch.device, dtype: torch.dtype) -> Embedder:
    """The backbone with the recipe's attention, pooling, lengths and adapters."""
    longest = max(order.query_tokens, order.passage_tokens)
    kernel = order.embedder.attn_implementation
    if device.type == "cpu" and kernel == "flash_attention_2":
        kernel = "auto"  # a GPU's training, whose weights are written out from here
    settings = order.embedder.model_copy(update={"max_length": longest, "attn_implementation": kernel})
    embedder = Embedder.load(backbone, settings, device=device, dtype=dtype, check=False)
    limit = getattr(embedder.model.config, "max_position_embeddings", None)
    if limit and settings.max_length > limit:
        raise UserError(
            f"{backbone} has room for {limit} tokens, and the recipe asks for {settings.max_length}"
        )
    if order.recipe.lora is not None:
        seed_everything(derive_seed(order.study_seed, "lora", order.seed))
        embedder.model = with_adapters(embedder.model, order.recipe.lora)
    return embedder


def with_adapters(model: nn.Module, lora: Lora) -> Any:
    """The model with low-rank adapters, everything else frozen."""
    from peft import LoraConfig, TaskType, get_peft_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
    )
    return get_peft_model(model, config)


def write_embedder(
    folder: Path,
    backbone: Path,
    order: Train,
    tensors: Mapping[str, torch.Tensor],
    prompts: Mapping[str, str],
    facts: Mapping[str, Any],
) -> None:
    """Write the embedder that these parameters make, whole or not at all; adapters are merged."""
    dtype = torch.bfloat16 if facts["precision"] == "bf16" else torch.float32
    embedder = _load(backbone, order, torch.device("cpu"), torch.float32)
    restore_parameters(embedder, tensors)
    if order.recipe.lora is not None:
        embedder.model = embedder.model.merge_and_unload()
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    export(embedder, beside, card(order, facts), prompts, dtype=dtype)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside.rename(folder)


def card(order: Train, facts: Mapping[str, Any]) -> str:
    """The model card: what it was made of, how, and what it scored. Equal trainings, equal cards."""
    recipe = order.recipe.as_slice()
    data = facts["data"]
    title = f"{order.backbone_name}+{order.recipe_name}+s{order.seed}"
    head = ["library_name: sentence-transformers", "pipeline_tag: feature-extraction"]
    rows = [f"| {name} | {given['usable']} |" for name, given in data["datasets"].items()]
    scores = [f"| {name} | {value:.4f} |" for name, value in sorted(facts.get("scores", {}).items())]
    return "\n".join(
        [
            *("---", *head, "---", f"# {title}", ""),
            f"A text-embedding model: the backbone `{order.backbone_name}` with {order.embedder.attention} "
            f"attention and {order.embedder.pooling} pooling, trained for {facts['step']} of "
            f"{data['steps']} steps with a contrastive loss over in-batch and mined hard negatives.",
            "",
            "```python",
            "from sentence_transformers import SentenceTransformer",
            "",
            'model = SentenceTransformer("path/to/this/folder")',
            "```",
            "",
            *("## Data", "", "| dataset | usable samples |", "|---|---|", *rows, ""),
            f"{data['batches']['pure']} batches of one dataset and {data['batches']['mixed']} mixed ones an "
            f"epoch; {data['batches']['dropped_samples']} samples filled none. "
            f"Batch order `{facts['order']}`.",
            "",
            *(["## Held-out scores", "", "| metric | value |", "|---|---|", *scores, ""] if scores else []),
            *("## Recipe", "", "```json", json.dumps(recipe, indent=1, sort_keys=True), "```", ""),
        ]
    )
