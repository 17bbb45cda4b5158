"""Checking a pair before anything is compared: same shape, same tokens, or a clear word why not."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realign.artifacts.command import Job, UserError
from realign.backbones.corpus import read_texts
from realign.backbones.layout import load_tokenizer, read_config
from realign.study.backbones import CheckPairJob

# What must be equal unless a pair allows otherwise: the key in a model's config, and what is lost then.
NEEDED = {
    "architecture": ("model_type", "as far as their shapes agree"),
    "width": ("hidden_size", "without correlation, Procrustes and probes read from the other model"),
    "depth": ("num_hidden_layers", "by their final layers, and by CKA of all pairs of layers"),
}
LONGEST = 100_000  # characters of a text that are tokenised: a difference shows long before
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
    """The same architecture, width and depth, unless the pair allows a difference."""
    a, b = shape_of(left), shape_of(right)
    for difference, (key, lost) in NEEDED.items():
        if a[key] != b[key] and difference not in settings.allow:
            raise UserError(
                f"{settings.left_name} and {settings.right_name} differ in {difference}: {key} is {a[key]!r} "
                f"on the left and {b[key]!r} on the right; `allow: [{difference}]` of this pair (under "
                f"`pairs`) compares them {lost}"
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
    """Whether the tokens of both sides can be matched by `alignment`, as comparisons do it."""
    a, b = load_tokenizer(left), load_tokenizer(right)
    found = cuts(a, b, corpora)
    names = f"{settings.left_name} and {settings.right_name}"
    if settings.alignment == "offsets":
        if found.texts and not found.shared:
            raise UserError(f"{names} share no token: none is the same characters in both tokenizers")
    elif different := found.first.get(settings.alignment):
        raise UserError(f"{names} do not cut texts alike: {different.told(a, b)}; {found.advice()}")
    return {
        "texts": found.texts,
        "same_ids": "ids" not in found.first,
        "same_offsets": found.shared == found.tokens,
        "shared_tokens": found.shared / max(found.tokens, 1),
    }


@dataclass(frozen=True)
class Difference:
    """The first text that two tokenizers cut differently."""

    where: str
    left: Sequence[int]
    right: Sequence[int]

    def told(self, a: Any, b: Any) -> str:
        """The place where the two part."""
        longest = min(len(self.left), len(self.right))
        at = next((i for i in range(longest) if self.left[i] != self.right[i]), longest)
        shown = [_shown(t, ids, at) for t, ids in ((a, self.left), (b, self.right))]
        return f"in {self.where}, token {at} is {shown[0]} on the left and {shown[1]} on the right"


@dataclass
class Cuts:
    """How two tokenizers cut the same texts."""

    texts: int = 0
    tokens: int = 0  # of the side with more of them, text by text
    shared: int = 0  # tokens that are the same characters in both
    first: dict[str, Difference] = field(default_factory=dict)  # by the alignment that it rules out

    def compare(self, x: Any, y: Any, where: str) -> None:
        """Take in one text's cuts."""
        ids = x["input_ids"], y["input_ids"]
        self.texts += 1
        self.tokens += max(map(len, ids))
        places = [Counter(map(tuple, cut["offset_mapping"])) for cut in (x, y)]
        self.shared += (places[0] & places[1]).total()
        if ids[0] != ids[1]:
            self.first.setdefault("ids", Difference(where, *ids))
        if len(ids[0]) != len(ids[1]):
            self.first.setdefault("counts", Difference(where, *ids))

    def advice(self) -> str:
        """The settings that compare such tokenizers."""
        ways = []
        if self.shared:
            share = f"{self.shared / self.tokens:.0%}"
            ways.append(
                f"`hrsa.alignment: offsets` compares the {share} of tokens that both have "
                "(with `states.tokens.count: null`, so that both keep them)"
            )
        if "counts" not in self.first:
            ways.append("`hrsa.alignment: counts` compares tokens at equal places")
        return ", ".join(ways) or "they can't be compared token by token"


def cuts(a: Any, b: Any, corpora: Mapping[str, Sequence[str]]) -> Cuts:
    """How two tokenizers cut the texts of some corpora."""
    found = Cuts()
    for corpus, inside in corpora.items():
        for number, text in enumerate(inside, 1):
            found.compare(_cut(a, text), _cut(b, text), f"{corpus}, text {number}")
    return found


def _cut(tokenizer: Any, text: str) -> Any:
    try:
        return tokenizer(text[:LONGEST], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    except NotImplementedError:
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer has no fast form, which tells where tokens lie in a "
            "text; save one with transformers (`AutoTokenizer.from_pretrained(…).save_pretrained(…)`)"
        ) from None


def _shown(tokenizer: Any, ids: Sequence[int], at: int) -> str:
    return f"{ids[at]} ({tokenizer.decode([ids[at]])!r})" if at < len(ids) else "missing"
