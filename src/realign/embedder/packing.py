"""Texts one after the other in a single row, so that nothing is padding.

Attention then has to know where each text begins. FlashAttention-2 takes that from the library;
without it PyTorch's own variable-length kernel does on a GPU in half precision, and elsewhere each
text is attended to by itself. The kernel is chosen when a model is loaded and stays: a forward pass
that is repeated for activation checkpointing must find the one that it had.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from realign.embedder.tokens import Rows

PACKED = "realign_packed"


@dataclass(frozen=True)
class Pack:
    """Rows as tensors, one after the other."""

    input_ids: Tensor  # (1, tokens)
    position_ids: Tensor  # (1, tokens), from 0 in each text
    bounds: Tensor  # where texts begin and end, one more than there are texts
    longest: int
    prompt_lengths: Tensor

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    def to(self, device: torch.device | str) -> "Pack":
        """The same texts on a device."""
        moved = (t.to(device, non_blocking=True) for t in (self.input_ids, self.position_ids, self.bounds))
        return Pack(*moved, self.longest, self.prompt_lengths.to(device, non_blocking=True))

    def inputs(self) -> dict[str, Any]:
        """What the model is called with."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "cu_seq_lens_q": self.bounds,
            "cu_seq_lens_k": self.bounds,
            "max_length_q": self.longest,
            "max_length_k": self.longest,
        }


def pack(rows: Rows) -> Pack:
    """Rows as one pack; there must be a token in it."""
    lengths = torch.tensor(rows.lengths, dtype=torch.int32)
    if not int(lengths.sum()):
        raise ValueError("a pack holds at least one token")
    return Pack(
        torch.tensor([[token for row in rows.ids for token in row]], dtype=torch.long),
        torch.cat([torch.arange(n, dtype=torch.long) for n in rows.lengths]).unsqueeze(0),
        functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0)),
        int(lengths.max()),
        torch.tensor(rows.prompt_lengths, dtype=torch.long),
    )


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
            *(heads[:, :, start:end] for heads in (query, key, value)),
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
