"""How a decoder-only language model is read as an embedding model."""

from typing import Literal

from realign.study.base import Section, setting

Attention = Literal["bidirectional", "causal"]
Pooling = Literal["mean", "last", "cls", "weighted_mean"]
Kernel = Literal["auto", "flash_attention_2", "sdpa", "eager"]
Implementation = Literal[Kernel, "packed"]


class EmbedderSettings(Section):
    """Attention, pooling and lengths: what turns token states into one vector for a text."""

    attention: Attention = setting(
        "bidirectional", "Whether a token sees the whole text, or only what stands before it."
    )
    pooling: Pooling = setting(
        "mean",
        "How token states become one vector: their mean, the last token, the first token, or a mean "
        "weighted by position.",
    )
    pool_instruction: bool = setting(
        False, "Whether the tokens of an instruction are pooled too; attention always sees them."
    )
    normalize: bool = setting(True, "Whether vectors are scaled to length 1.")
    max_length: int = setting(
        512, "Texts are cut after this many tokens, instruction included.", unit="tokens", ge=2
    )
    attn_implementation: Implementation = setting(
        "auto",
        "The attention kernel; auto takes flash-attention 2 where it is installed and fits the "
        "hardware, else PyTorch's own; packed puts texts one after the other, without padding.",
    )
