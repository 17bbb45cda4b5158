"""How backbones are fetched, imported, made and scored, and what the sides of a pair must share.

What it costs to make a backbone again depends on its own recipe alone, so each recipe is a section of its
own and reaches its command by itself. `sources.py` says which sources there are.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import model_validator

from realign.study.base import Name, Section, formed, setting
from realign.study.pairs import Difference

HubId = Annotated[
    str, formed(r"^[\w.-]+(/[\w.-]+)?$", "a model's or dataset's id, such as Qwen/Qwen3-8B-Base")
]
Revision = Annotated[str, formed(r"^[\w.][\w./-]*$", "a revision: a branch, a tag or a commit")]


class FetchHub(Section):
    """One model on a hub, at one revision."""

    repo: HubId = setting(..., "The model's id on the hub, org/name.")
    revision: Revision = setting("main", "A commit hash; a branch or tag works, moves, and is warned about.")


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
        64,
        "Sequences that go through the model at once, on each process. Halved when memory runs out.",
        unit="sequences",
        ge=1,
    )
    zero_stage: Literal[0, 1, 2, 3] = setting(2, "DeepSpeed's ZeRO stage; bf16 needs 1 or more.")
    gradient_checkpointing: bool = setting(False, "Recompute activations in the backward pass.")
    checkpoint_every: int = setting(50, "Steps between checkpoints to resume from.", unit="steps", ge=1)
    checkpoint_minutes: float = setting(
        30.0, "Minutes after which the next step ends with a checkpoint too.", unit="minutes", gt=0
    )

    def flags(self, **changes: Any) -> str:
        """These settings as a command's flags, with changes; nothing in them needs quoting."""
        values = {**self.model_dump(mode="json"), **changes}
        words = [f"--hardware.{k.replace('_', '-')} {json.dumps(v)}" for k, v in values.items()]
        return " ".join(words)


class Derivation(Section):
    """What all derivations have: a way to be computed that is no part of their identity."""

    hardware: TuningHardware = setting(
        TuningHardware(), "How it is computed; makes nothing stale.", stales=False
    )
    checkpoints: tuple[int, ...] = setting(
        (),
        "Steps on the way at which the model is a backbone of the study too, named `<backbone>-step<step>`.",
        unit="steps",
        stales=False,
    )
    stop: int | None = setting(
        None, "End after so many steps, with the learning rates of the whole run.", unit="steps", ge=1
    )

    @model_validator(mode="after")
    def _steps_in_order(self) -> "Derivation":
        steps, whole = self.checkpoints, getattr(self, "optimisation", Optimisation()).steps
        if list(steps) != sorted(set(steps)) or (steps and steps[0] < 1):
            raise ValueError("checkpoints are distinct steps in rising order, the first at least 1")
        if self.stop is not None and self.stop > whole:
            raise ValueError(f"stop {self.stop} lies beyond the last step, {whole}")
        if steps and steps[-1] >= (last := self.stop or whole):
            raise ValueError(
                f"checkpoint {steps[-1]} is not before the last step, {last}, which is the backbone"
            )
        return self


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


class Merge(Section):
    """A model made of other models' weights, tensor by tensor, without training."""

    method: Literal["linear", "slerp", "arithmetic", "graft"] = setting(
        "linear",
        "linear: (1 - alpha) of the first backbone plus alpha of the second. slerp: the same along the arc "
        "between the two, tensor by tensor. arithmetic: the first plus alpha times (third - second). "
        "graft: the first with layers of the second.",
    )
    alpha: float = setting(
        0.5, "How far to go; below 0 and above 1 it goes on beyond the backbones. A graft has none."
    )
    alphas: tuple[float, ...] = setting(
        (),
        "Other values of alpha, each a backbone of the study too, named `<backbone>-alpha<value>`.",
        stales=False,
    )
    threshold: float = setting(
        0.9995, "slerp goes straight where the cosine of two tensors is above this.", gt=0, le=1
    )
    layers: tuple[int, int] | None = setting(
        None, "The first and the last layer of a graft; layer 1 is the first block, as in hidden states."
    )
    rows: Literal["equal", "larger", "zeros"] = setting(
        "equal",
        "Where one vocabulary has more rows than another: refuse that, take these rows from the backbone "
        "that has them, or count them as zeros where they lack.",
    )
    stored: Literal["keep", "float32", "bfloat16"] = setting("keep", "The type the weights are stored in.")

    @model_validator(mode="after")
    def _complete(self) -> "Merge":
        if (self.method == "graft") != (self.layers is not None):
            raise ValueError("`layers` names the layers of a graft: method graft needs it, others lack it")
        if self.layers and not 1 <= self.layers[0] <= self.layers[1]:
            raise ValueError("layers: the first layer of a graft is at least 1 and not after the last")
        if len({*self.alphas, self.alpha}) <= len(self.alphas) or (self.alphas and self.method == "graft"):
            raise ValueError("alphas are distinct values other than alpha, and a graft has none")
        parents = getattr(self, "of", None)  # the recipe alone does not know them
        needed = 3 if self.method == "arithmetic" else 2
        if parents is not None and len(parents) != needed:
            raise ValueError(f"method {self.method} is of {needed} backbones, and `of` names {len(parents)}")
        return self


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
