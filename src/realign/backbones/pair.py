"""Checking a pair before anything is compared: same shape, same tokens, or a clear word why not."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.backbones.corpus import read_texts
from realign.backbones.layout import load_tokenizer, read_config
from realign.study.backbones import CheckPairJob

WIDTHS = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")


def run(job: Job[CheckPairJob]) -> None:
    """Check a pair and write down what was found; an unusable pair is an error."""
    settings = job.settings
    left, right = job.input("left"), job.input("right")
    shape = check_shapes(left, right, settings)
    corpora = {
        path.stem: [t.text for t in read_texts(path)][: settings.texts] for path in job.inputs_of("corpora")
    }
    tokens = check_tokens(left, right, corpora, settings)
    found = {
        "left": settings.left_name,
        "right": settings.right_name,
        "kind": settings.kind,
        "tags": list(settings.tags),
        "alignment": settings.alignment,
        **shape,
        **tokens,
    }
    job.output("report").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def check_shapes(left: Path, right: Path, settings: CheckPairJob) -> dict[str, Any]:
    """Same architecture and width, and the same number of blocks where that is asked for."""
    a, b = shape_of(left), shape_of(right)
    names = f"{settings.left_name} and {settings.right_name}"
    needed = ["model_type", "hidden_size", *(["num_hidden_layers"] if settings.same_layers else [])]
    for key in needed:
        if a.get(key) != b.get(key):
            relaxed = " (--same-layers false allows it)" if key == "num_hidden_layers" else ""
            raise UserError(
                f"{names} are no pair: {key} is {a.get(key)!r} on the left "
                f"and {b.get(key)!r} on the right{relaxed}"
            )
    return {
        "architecture": a["model_type"],
        "width": a.get("hidden_size"),
        "layers": [a.get("num_hidden_layers"), b.get("num_hidden_layers")],
        "differing": [key for key in WIDTHS if a.get(key) != b.get(key)],
    }


def shape_of(folder: Path) -> dict[str, Any]:
    """What must be alike, under the same words for every architecture.

    Some call their width otherwise (`n_embd`) or keep it with their text part; transformers knows.
    """
    from transformers import AutoConfig

    read_config(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no usable config.json ({str(error).splitlines()[0]})") from None
    text = config.get_text_config()
    shape = {key: getattr(text, key, None) for key in (*WIDTHS, "num_hidden_layers")}
    if shape["hidden_size"] is None or shape["num_hidden_layers"] is None:
        raise UserError(f"{folder}: its config.json tells no width or number of blocks")
    return {"model_type": config.model_type, **shape}


def check_tokens(
    left: Path, right: Path, corpora: Mapping[str, Sequence[str]], settings: CheckPairJob
) -> dict[str, Any]:
    """Whether both tokenizers cut the probe corpora alike; how alike they must be is `alignment`."""
    a, b = load_tokenizer(left), load_tokenizer(right)
    same_ids = same_offsets = True
    texts = 0
    for corpus, inside in corpora.items():
        for number, text in enumerate(inside, 1):
            texts += 1
            x, y = _cut(a, text), _cut(b, text)
            same_ids &= x["input_ids"] == y["input_ids"]
            same_offsets &= x["offset_mapping"] == y["offset_mapping"]
            unlike = {
                "ids": x["input_ids"] != y["input_ids"],
                "offsets": x["offset_mapping"] != y["offset_mapping"],
                "counts": False,
            }[settings.alignment]
            if unlike:
                raise UserError(_difference(x, y, a, b, f"{corpus}, text {number}", settings))
    return {"texts": texts, "same_ids": same_ids, "same_offsets": same_offsets}


def _cut(tokenizer: Any, text: str) -> Any:
    return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)


def _difference(x: Any, y: Any, a: Any, b: Any, where: str, settings: CheckPairJob) -> str:
    """The first place where two tokenizers part, and the setting that allows it."""
    key = "input_ids" if settings.alignment == "ids" else "offset_mapping"
    pairs = zip(x[key], y[key], strict=False)
    at = next((i for i, (u, v) in enumerate(pairs) if u != v), min(len(x[key]), len(y[key])))
    shown = [_shown(t, cut["input_ids"], at) for t, cut in ((a, x), (b, y))]
    looser = {"ids": "offsets` or `counts", "offsets": "counts"}[settings.alignment]
    return (
        f"{settings.left_name} and {settings.right_name} do not cut texts alike: in {where}, token {at} is "
        f"{shown[0]} on the left and {shown[1]} on the right; `alignment: {looser}` matches them otherwise"
    )


def _shown(tokenizer: Any, ids: Sequence[int], at: int) -> str:
    return f"{ids[at]} ({tokenizer.decode([ids[at]])!r})" if at < len(ids) else "missing"
