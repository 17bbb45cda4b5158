"""Bringing in a model that lies on this machine: a folder in Hugging Face layout, or a GGUF file.

Both end in the layout of `backbones.layout`. A GGUF file is dequantized by transformers, once;
what is loaded afterwards is safetensors.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from realign.artifacts.command import Job, UserError
from realign.backbones.layout import check_layout, model_files, place_file, read_config
from realign.backbones.model import DTYPES, no_bars_in_logs
from realign.study.backbones import ImportModel

log = logging.getLogger(__name__)
GGUF_MAGIC = b"GGUF"


def run_folder(job: Job[ImportModel]) -> None:
    """Take along a local folder's model: its config, weights and tokenizer, and no more."""
    source, model = job.input("source"), job.output("model")
    if not source.is_dir():
        raise UserError(f"{source} is no folder; `path` names a model in Hugging Face layout")
    read_config(source)
    for name in model_files(source):
        place_file(source / name, model / name)
    if job.settings.dtype != "keep":
        _store_as(model, DTYPES[job.settings.dtype])
    job.note(origin={"path": str(source)}, licence=job.settings.license, **check_layout(model))


def _store_as(model: Path, dtype: torch.dtype) -> None:
    """Store the weights in another type, file by file.

    Each file is replaced and none is written to: it may be a link to the user's own.
    """
    config = read_config(model)
    if "quantization_config" in config:
        raise UserError("the model is quantized, and its weights cannot be cast; leave out `dtype`")
    for file in sorted(model.glob("*.safetensors")):
        tensors = load_file(file)
        file.unlink()
        cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
        save_file(cast, file, {"format": "pt"})
    config.pop("torch_dtype", None)
    config["dtype"] = str(dtype).removeprefix("torch.")
    (model / "config.json").unlink()
    (model / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def run_gguf(job: Job[ImportModel]) -> None:
    """Dequantize a GGUF file into safetensors, with the tokenizer that it carries."""
    source, model = _only_gguf(job.input("source")), job.output("model")
    with source.open("rb") as stream:
        if stream.read(4) != GGUF_MAGIC:
            raise UserError(f"{source} is no GGUF file")
    dtype = DTYPES.get(job.settings.dtype, torch.float32)
    loaded, tokenizer = read_gguf(source, dtype)
    loaded.save_pretrained(model)
    tokenizer.save_pretrained(model)
    job.note(origin={"gguf": str(source)}, licence=job.settings.license, **check_layout(model))


def _only_gguf(source: Path) -> Path:
    """The file itself, or the one GGUF file of a folder that a package was unpacked into."""
    if not source.is_dir():
        return source
    files = sorted(source.glob("*.gguf"))
    if len(files) != 1:
        raise UserError(f"{source} holds {len(files)} GGUF files; exactly one is expected")
    return files[0]


def read_gguf(source: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model and the tokenizer in a GGUF file; transformers asks for its folder and its name."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    no_bars_in_logs()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
    except (ValueError, KeyError, NotImplementedError, OSError) as error:
        raise UserError(f"{source} cannot be read as GGUF: {str(error).splitlines()[0]}") from None
    return model, tokenizer
