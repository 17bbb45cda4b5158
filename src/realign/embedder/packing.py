"""Attention over texts that stand one after the other in a single row, so that nothing is padding.

It has to know where each text begins. FlashAttention-2 takes that from the library;
without it PyTorch's own variable-length kernel does on a GPU in half precision, and elsewhere each
text is attended to by itself. The kernel is chosen when a model is loaded and stays: a forward pass
that is repeated for activation checkpointing must find the one that it had.
"""

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PACKED = "realign_packed"


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each text of a pack; heads come as (1, heads, tokens, width)."""
    if cu_seq_lens_q is None or sliding_window is not None:
        raise ValueError("packed attention needs a pack, and a model without a sliding window")
    causal = module.is_causal if is_causal is None else is_causal
    q, k, v = (heads[0].transpose(0, 1) for heads in (query, key, value))
    if q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and not dropout:
        from torch.nn.attention.varlen import varlen_attn

        window = (-1, 0) if causal else (-1, -1)
        longest = int(max_length_q or 0)
        made = varlen_attn(
            q, k, v, cu_seq_lens_q, cu_seq_lens_q, longest, longest,
            scale=scaling, window_size=window, enable_gqa=True,
        )  # fmt: skip
        return made.unsqueeze(0), None  # type: ignore[union-attr]
    bounds = cu_seq_lens_q.tolist()
    parts = [
        functional.scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, start:end],
            value[:, :, start:end],
            dropout_p=dropout,
            scale=scaling,
            is_causal=bool(causal),
            enable_gqa=True,
        )
        for start, end in itertools.pairwise(bounds)
        if end > start
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def register_packed_attention() -> None:
    """Make the kernel known to the library by its name; its texts need no mask."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
