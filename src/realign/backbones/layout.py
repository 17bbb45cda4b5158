"""The one layout that every backbone ends in: config, safetensors, tokenizer, and nothing that runs.

Whatever a backbone comes from, the rest of the pipeline finds the same folder. Pickles are never
taken along, and a model that needs code of its own is refused.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.artifacts.files import link_or_copy

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = re.compile(r"(pytorch_model|model|consolidated|adapter_model).*\.(bin|pt|pth|ckpt|pkl)")
# What a model's folder may hold besides its weights: settings, tokenizer, licence, and what
# sentence-transformers keeps (a teacher is fetched the same way).
_SMALL = re.compile(
    r"(config|generation_config|modules|config_sentence_transformers|sentence_bert_config"
    r"|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|preprocessor_config)\.json"
    r"|tokenizer\.model|spiece\.model|sentencepiece\.bpe\.model|vocab\.txt|merges\.txt"
    r"|chat_template\.(jinja|json)|LICENSE.*|NOTICE.*"
    r"|\d+_[A-Za-z]+/(config\.json|model\.safetensors)"
)


def small_files(names: Iterable[str]) -> list[str]:
    """Those of a repository's files that belong to a model and are no weights."""
    return sorted(name for name in names if _SMALL.fullmatch(name))


def weight_files(names: Iterable[str], where: str) -> list[str]:
    """Those that may hold weights: the index and its shards where there is one, else the single file."""
    names = set(names)
    if WEIGHTS in names:
        return [WEIGHTS]
    if INDEX in names:
        return [INDEX]
    if "config.json" not in names:
        raise UserError(f"{where} is no model in Hugging Face layout: it has no config.json")
    pickled = sorted(name for name in names if _PICKLED.fullmatch(name))
    if pickled:
        raise UserError(
            f"{where} has its weights only as {pickled[0]}, which would have to be unpickled; "
            "choose a revision or a copy with safetensors"
        )
    raise UserError(f"{where} has no weights: neither {WEIGHTS} nor {INDEX}")


def shards_of(index: Path) -> list[str]:
    """The weight files that an index names, each a plain file name beside it."""
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is no index of safetensors ({error})") from None
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise UserError(f"{index} names {shard!r}, which is no safetensors file beside it")
    return shards


def model_files(folder: Path) -> list[str]:
    """The files of a local model that are taken along."""
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    weights = weight_files(names, str(folder))
    if weights == [INDEX]:
        weights += shards_of(folder / INDEX)
        missing = [name for name in weights if name not in names]
        if missing:
            raise UserError(f"{folder}: the index names {missing[0]}, which is not there")
    return sorted([*small_files(names), *weights])


def place_file(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: a link where the file system has them, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(source, target)


def read_config(folder: Path) -> dict[str, Any]:
    """A model's config.json, or an error that says what is wrong with it."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} is no model in Hugging Face layout: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise UserError(f"{path} names no model_type")
    if "auto_map" in config:
        raise UserError(
            f"{path} asks for code of its own (auto_map), and remote code is never run here; "
            "use a model whose architecture transformers knows"
        )
    return config


def check_layout(folder: Path) -> dict[str, Any]:
    """Refuse a folder that the pipeline could not use; returns what its provenance should say.

    Names and shapes are read from the weight files' headers, so this costs no memory.
    """
    config = read_config(folder)
    files = model_files(folder)
    shapes = weight_shapes(folder, files)
    return {
        "architecture": config["model_type"],
        "parameters": sum(_size(shape) for shape in shapes.values()),
        "vocabulary": _check_tokenizer(folder, config),
    }


def weight_shapes(folder: Path, files: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape, from the headers of the top-level weight files."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for name in files:
        if name.endswith(".safetensors") and "/" not in name:
            try:
                with safe_open(folder / name, "pt") as weights:
                    shapes |= {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
            except SafetensorError as error:
                raise UserError(f"{folder / name} is damaged ({error}); fetch it again") from None
    return shapes


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def load_tokenizer(folder: Path) -> Any:
    """A model's tokenizer; transformers would make an empty one of a folder that has none."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UserError(f"{folder} has no usable tokenizer ({str(error).splitlines()[0]})") from None
    if len(tokenizer) < 2 or not tokenizer("a b 1", add_special_tokens=False)["input_ids"]:
        raise UserError(f"{folder} has no usable tokenizer: it turns text into nothing")
    return tokenizer


def _check_tokenizer(folder: Path, config: dict[str, Any]) -> int:
    size = len(load_tokenizer(folder))
    rows = config.get("vocab_size")
    if isinstance(rows, int) and size > rows:
        raise UserError(f"{folder}: its tokenizer has {size} tokens, and its model knows {rows}")
    return size
